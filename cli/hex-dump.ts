const bytesPerLine = 16
/** A terminal is no place for a megabyte; --raw writes all. */
const maxLines = 256

/** Bytes as offset, hex and ASCII, as `hexdump -C` prints them, and before that as text where they are UTF-8. */
export function hexDump(bytes: Buffer): string {
  const lines: string[] = []
  const text = textOf(bytes)
  if (text !== undefined) lines.push(text, '')
  const shown = Math.min(bytes.length, maxLines * bytesPerLine)
  for (let at = 0; at < shown; at += bytesPerLine) {
    const line = bytes.subarray(at, Math.min(at + bytesPerLine, shown))
    const hex = [...line].map((byte) => byte.toString(16).padStart(2, '0')).join(' ')
    const ascii = [...line].map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('')
    lines.push(`${at.toString(16).padStart(8, '0')}  ${hex.padEnd(bytesPerLine * 3 - 1)}  |${ascii}|`)
  }
  if (shown < bytes.length) lines.push(`… ${bytes.length - shown} bytes more (--raw writes all)`)
  return lines.join('\n')
}

/** Without what a terminal would obey. Undefined for bytes that are no text. */
function textOf(bytes: Buffer): string | undefined {
  if (bytes.length === 0) return undefined
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, maxLines * bytesPerLine), {
      stream: true, // the cut may be inside a character
    })
    return text.replace(/[^\P{Cc}\n\t]/gu, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`)
  } catch {
    return undefined
  }
}
