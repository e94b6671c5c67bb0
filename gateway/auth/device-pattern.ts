/**
 * Whether a device id fits a fleet credential's pattern: `*` stands for any characters, also none; null covers every device.
 * No regular expression: patterns and ids are input, and this is linear in both.
 */
export function fitsPattern(pattern: string | null, device: string): boolean {
  if (pattern === null || pattern === '*') return true
  const parts = pattern.split('*')
  const first = parts[0] as string
  if (parts.length === 1) return device === first
  const last = parts[parts.length - 1] as string
  if (device.length < first.length + last.length || !device.startsWith(first) || !device.endsWith(last)) return false
  const end = device.length - last.length
  let from = first.length
  for (const part of parts.slice(1, -1)) {
    const found = device.indexOf(part, from)
    if (found < 0 || found + part.length > end) return false
    from = found + part.length
  }
  return true
}
