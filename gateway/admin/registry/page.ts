import { invalid } from './refusal.ts'

/** A stretch of a list by keyset: the next one begins after its last row, whatever was added before it meanwhile. */
export interface Page<Row> {
  readonly rows: readonly Row[]
  /** The `after` of the next page; null at the end. */
  readonly next: string | null
}

/** @param rows one more than the limit where there are more */
export function pageOf<Row extends object>(
  rows: readonly Row[],
  limit: number,
  cursor: (row: Row) => string,
): Page<Row> {
  const shown = rows.slice(0, limit)
  const last = shown.at(-1)
  return { rows: shown, next: rows.length > limit && last !== undefined ? cursor(last) : null }
}

/** What a page ended with, opaque to whoever hands it back. */
export function cursorText(parts: readonly (string | number)[]): string {
  return Buffer.from(JSON.stringify(parts)).toString('base64url')
}

/** @throws BridgeError BRIDGE_USAGE for what cursorText did not make of so many parts */
export function cursorOf(text: string, length: number): (string | number)[] {
  try {
    const parts: unknown = JSON.parse(Buffer.from(text, 'base64url').toString())
    if (
      Array.isArray(parts) &&
      parts.length === length &&
      parts.every((part) => (typeof part === 'string' ? !part.includes('\0') : Number.isSafeInteger(part)))
    )
      return parts
  } catch {
    // as below
  }
  throw invalid('`after` is not what `next` of another page was')
}

/** A part of a cursor that is a number; null when there is no cursor. */
export function numberOf(part: string | number | undefined): number | null {
  if (part === undefined) return null
  if (typeof part !== 'number' || Math.abs(part) > 9e15) throw invalid('`after` is not what `next` of another page was')
  return part
}
