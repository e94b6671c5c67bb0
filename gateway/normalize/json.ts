import { isUtf8 } from 'node:buffer'
import { DecodeError } from './decode-error.ts'
import { oneLine, printable } from './quote.ts'

export type JsonObject = Record<string, unknown>

/** Nested arrays and objects, the outermost counted as 1. */
export const maxDepth = 32

/** Far beyond what 1,000 readings need; parsing ten times as many stops the process for 80 ms. */
const maxMembers = 10_000
/** Texts shorter than this cannot hold enough members to be worth a look. */
const longText = 16_384

/**
 * The bytes as text, without a byte order mark and the ASCII white space around it.
 * @throws {DecodeError} `empty` when nothing is left, `malformed` when it is not UTF-8
 */
export function utf8Text(bytes: Buffer): string {
  if (!isUtf8(bytes)) throw new DecodeError('malformed', 'not UTF-8')
  const text = trimmed(bytes.toString())
  if (text === '') throw new DecodeError('empty', 'there is nothing in it')
  return text
}

/** @throws {DecodeError} `malformed`, `too_deep` or `too_many_readings` */
export function parseJson(text: string): unknown {
  if (text.length > 2 * maxDepth && (text.length >= longText || hasManyBrackets(text))) checkShape(text)
  try {
    return JSON.parse(text)
  } catch (error) {
    // The engine quotes at most some 20 characters around the place.
    const reason = error instanceof Error ? printable(error.message) : 'unreadable'
    throw new DecodeError('malformed', oneLine(`not JSON: ${reason}`))
  }
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function trimmed(text: string): string {
  let start = text.charCodeAt(0) === byteOrderMark ? 1 : 0
  let end = text.length
  while (start < end && isSpace(text.charCodeAt(start))) start++
  while (end > start && isSpace(text.charCodeAt(end - 1))) end--
  return end - start === text.length ? text : text.slice(start, end)
}

const byteOrderMark = 0xfeff
const isSpace = (code: number) => code === 0x20 || (code >= 0x09 && code <= 0x0d)

/** True when there are more than 32: only then can the nesting be too deep. Counts by the engine's own search, which is faster than a loop. */
function hasManyBrackets(text: string): boolean {
  let count = 0
  for (let at = text.indexOf('{'); at >= 0; at = text.indexOf('{', at + 1)) if (++count > maxDepth) return true
  for (let at = text.indexOf('['); at >= 0; at = text.indexOf('[', at + 1)) if (++count > maxDepth) return true
  return false
}

/** Nesting and size before the parser, which would take both however large. A text that is no JSON gets its answer from the parser. */
function checkShape(text: string): void {
  let depth = 0
  let members = 0
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === 0x22) {
      at = endOfString(text, at + 1)
    } else if (code === 0x2c) {
      if (++members > maxMembers) throw new DecodeError('too_many_readings', `more than ${maxMembers} members`)
    } else if (code === 0x7b || code === 0x5b) {
      if (++depth > maxDepth) throw new DecodeError('too_deep', `more than ${maxDepth} nested objects and arrays`)
    } else if (code === 0x7d || code === 0x5d) depth--
  }
}

function endOfString(text: string, from: number): number {
  for (let at = from; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === 0x22) return at
    if (code === 0x5c) at++
  }
  return text.length
}

/** Whether there are no bytes, or ASCII white space alone. */
export function isBlank(bytes: Buffer): boolean {
  for (const byte of bytes) if (!isSpace(byte)) return false
  return true
}
