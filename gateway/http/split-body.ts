import { mediaTypeOf } from '../normalize/media-type.ts'
import { fleetMembers, type JsonMember, splitArray } from '../normalize/split-json.ts'

/** The messages of a body; one more than allowed means too many. */
export type Split =
  | { readonly kind: 'array'; readonly parts: readonly Buffer[] }
  | { readonly kind: 'lines'; readonly parts: readonly Buffer[] }
  | { readonly kind: 'batch'; readonly parts: readonly Buffer[] }
  | { readonly kind: 'fleet'; readonly parts: readonly JsonMember[] }

export interface SplitOptions {
  readonly contentType: string | undefined
  /** Whether `{ "device": [ … ] }` is one message a device. */
  readonly fleet: boolean
  readonly maxItems: number
}

/**
 * Finds the messages in a body. The parts share its memory.
 * @returns undefined when the body is one message: by its form, because it is empty, or because it is not sound as a whole and is parked as it is
 */
export function splitBody(body: Buffer, { contentType, fleet, maxItems }: SplitOptions): Split | undefined {
  const type = mediaTypeOf(contentType)
  if (type === 'application/x-ndjson') {
    const parts = splitLines(body, maxItems)
    return parts.length === 0 ? undefined : { kind: 'lines', parts }
  }
  const isBatch = type === 'application/cloudevents-batch+json'
  if (type !== undefined && type !== 'application/json' && !isBatch) return undefined
  const first = firstByte(body)
  if (first === openBracket) {
    const parts = splitArray(body, maxItems)
    return parts === undefined || parts.length === 0 ? undefined : { kind: 'array', parts }
  }
  if (fleet && first === openBrace && !isBatch) {
    const parts = fleetMembers(body, maxItems)
    return parts === undefined ? undefined : { kind: 'fleet', parts }
  }
  return undefined
}

const openBracket = 0x5b
const openBrace = 0x7b
const lineFeed = 0x0a

/** Lines end with LF or CR LF; the last may go without, and blank ones are no messages. */
function splitLines(body: Buffer, maxItems: number): Buffer[] {
  const lines: Buffer[] = []
  let from = 0
  while (from < body.length && lines.length <= maxItems) {
    const found = body.indexOf(lineFeed, from)
    const end = found < 0 ? body.length : found
    const line = trimmed(body, from, end)
    if (line !== undefined) lines.push(line)
    from = end + 1
  }
  return lines
}

function trimmed(body: Buffer, from: number, to: number): Buffer | undefined {
  let start = from
  let end = to
  while (end > start && isSpace(body[end - 1])) end--
  while (start < end && isSpace(body[start])) start++
  return start === end ? undefined : body.subarray(start, end)
}

function firstByte(body: Buffer): number | undefined {
  let at = 0
  while (isSpace(body[at])) at++
  return body[at]
}

function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0d || byte === 0x09 || byte === lineFeed
}
