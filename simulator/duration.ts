const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }

/**
 * Reads a length of time as people write it: `500ms`, `30s`, `1.5m`, `2h`; a bare number is seconds.
 * @returns milliseconds, or undefined when it cannot be read or is not above 0
 */
export function parseDurationMs(text: string): number | undefined {
  const match = /^(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h)?$/.exec(text.trim())
  if (match === null) return undefined
  const ms = Number(match[1]) * (unitMs[match[2] ?? 's'] as number)
  return ms > 0 ? ms : undefined
}
