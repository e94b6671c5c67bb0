import { isUtf8 } from 'node:buffer'

export interface JsonMember {
  readonly key: string
  /** The bytes of the value, without white space around them. */
  readonly value: Buffer
}

/**
 * The bytes of each element of a JSON array, without parsing them: only commas, brackets and strings are looked at, so an element that is no
 * JSON harms none of its neighbours. The slices share the body's memory.
 * @param maxItems one element more than this ends the search, so a longer result than asked for means too many
 * @returns undefined when the bytes are not one array from end to end
 */
export function splitArray(body: Buffer, maxItems = Number.POSITIVE_INFINITY): Buffer[] | undefined {
  const end = lastOf(body)
  let at = skipSpace(body, 0)
  if (body[at] !== openBracket || end <= at || body[end] !== closeBracket) return undefined
  const elements: Buffer[] = []
  at = skipSpace(body, at + 1)
  if (at === end) return elements
  while (elements.length <= maxItems) {
    const stop = endOfValue(body, at, end)
    if (stop < 0) return undefined
    const element = sliceOf(body, at, stop)
    if (element === undefined) return undefined
    elements.push(element)
    if (body[stop] !== comma) return stop === end ? elements : undefined
    at = skipSpace(body, stop + 1)
  }
  return elements
}

/** As `splitArray`, for the members of an object in their order; a key that comes twice is there twice. */
export function splitMembers(body: Buffer, maxItems = Number.POSITIVE_INFINITY): JsonMember[] | undefined {
  return split(body, maxItems, false)
}

/** The members of a fleet body, which is an object with an array for each device; undefined for every other body, also for `{}`. */
export function fleetMembers(body: Buffer, maxItems = Number.POSITIVE_INFINITY): JsonMember[] | undefined {
  const members = split(body, maxItems, true)
  return members?.length === 0 ? undefined : members
}

function split(body: Buffer, maxItems: number, isFleet: boolean): JsonMember[] | undefined {
  const end = lastOf(body)
  let at = skipSpace(body, 0)
  if (body[at] !== openBrace || end <= at || body[end] !== closeBrace) return undefined
  const members: JsonMember[] = []
  at = skipSpace(body, at + 1)
  if (at === end) return members
  while (members.length <= maxItems) {
    if (body[at] !== quote) return undefined
    const endOfKey = endOfString(body, at, end)
    if (endOfKey < 0) return undefined
    const key = keyOf(body.subarray(at, endOfKey + 1))
    at = skipSpace(body, endOfKey + 1)
    if (key === undefined || body[at] !== colon) return undefined
    at = skipSpace(body, at + 1)
    if (isFleet && body[at] !== openBracket) return undefined
    const stop = endOfValue(body, at, end)
    if (stop < 0) return undefined
    const value = sliceOf(body, at, stop)
    if (value === undefined) return undefined
    members.push({ key, value })
    if (body[stop] !== comma) return stop === end ? members : undefined
    at = skipSpace(body, stop + 1)
  }
  return members
}

const comma = 0x2c
const colon = 0x3a
const quote = 0x22
const backslash = 0x5c
const openBrace = 0x7b
const closeBrace = 0x7d
const openBracket = 0x5b
const closeBracket = 0x5d

/** What a byte outside of strings means to the scan; the bytes of other UTF-8 characters are all above ASCII. */
const plain = 0
const text = 1
const opening = 2
const closing = 3
const separator = 4
const kinds = new Uint8Array(256)
kinds[quote] = text
kinds[openBrace] = kinds[openBracket] = opening
kinds[closeBrace] = kinds[closeBracket] = closing
kinds[comma] = separator

/** Index of the comma or closing bracket after the value that begins at `at`; -1 when the body ends inside of it. */
function endOfValue(body: Buffer, at: number, end: number): number {
  let depth = 0
  for (let index = at; index <= end; index++) {
    const kind = kinds[body[index] as number]
    if (kind === plain) continue
    if (kind === text) {
      index = endOfString(body, index, end)
      if (index < 0) return -1
    } else if (kind === opening) depth++
    else if (depth === 0) return index
    else if (kind === closing) depth--
  }
  return -1
}

/** Index of the quotation mark that ends the string that begins at `at`; -1 when there is none. */
function endOfString(body: Buffer, at: number, end: number): number {
  for (let index = at + 1; index <= end; index++) {
    const byte = body[index]
    if (byte === quote) return index
    if (byte === backslash) index++
  }
  return -1
}

function skipSpace(body: Buffer, at: number): number {
  let index = at
  while (isSpace(body[index])) index++
  return index
}

/** Index of the last byte that is no white space; -1 when there is none. */
function lastOf(body: Buffer): number {
  let index = body.length - 1
  while (index >= 0 && isSpace(body[index])) index--
  return index
}

/** JSON's own white space (RFC 8259 §2). */
function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09
}

/** Without the white space before `stop`; undefined when nothing is left. */
function sliceOf(body: Buffer, at: number, stop: number): Buffer | undefined {
  let end = stop
  while (end > at && isSpace(body[end - 1])) end--
  return end === at ? undefined : body.subarray(at, end)
}

function keyOf(quotedKey: Buffer): string | undefined {
  if (!isUtf8(quotedKey)) return undefined
  try {
    return JSON.parse(quotedKey.toString()) as string // begins and ends with a quotation mark, so a string or an error
  } catch {
    return undefined
  }
}
