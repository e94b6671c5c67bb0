import { type DecodeOptions, decode, type Tag, type TagDecoder } from 'cbor2'
import { BinaryShape } from './binary-shape.ts'
import { DecodeError } from './decode-error.ts'
import { exactInteger } from './exact-integer.ts'
import { quoted } from './quote.ts'

/**
 * One CBOR data item (RFC 8949), as far as JSON could say it: maps are objects without a prototype, integers of keys are texts. Integers beyond a
 * double are bigints, byte strings Uint8Arrays, undefined is null; tags that are not numbers count for nothing.
 * @param labels texts that stand for integers in keys
 * @throws {DecodeError}
 */
export function readCbor(bytes: Buffer, labels?: ReadonlyMap<number, string>): unknown {
  checkShape(bytes)
  const options = labels === undefined ? plainOptions : { ...plainOptions, createObject: objectMaker(labels) }
  try {
    // The one integer that cbor2 would hand over like the float of the same value.
    const preferBigInt = bytes.includes(firstUnsafeNegative)
    return plain(decode(bytes, preferBigInt ? { ...options, preferBigInt } : options))
  } catch (error) {
    if (error instanceof DecodeError) throw error
    throw new DecodeError('malformed', 'not CBOR: an item is damaged')
  }
}

/** As `readCbor`, with texts for bigints (their digits) and byte strings (base64url, RFC 8949 §6.1). */
export function readCborAsJson(bytes: Buffer): unknown {
  return asJson(readCbor(bytes))
}

/** -2^53 as an integer. */
const firstUnsafeNegative = Buffer.from('3b001fffffffffffff', 'hex')

/** Tags in a row; more mean nothing. */
const maxTags = 4
/** Of bignums: texts of more digits are of no use, and take longer than linear time. */
const maxBignumBytes = 32

const tagDecoders: NonNullable<DecodeOptions['tags']> = new Map<number | bigint, TagDecoder>([
  [2, ({ contents }) => bignum(contents)],
  [3, ({ contents }) => -1n - bignum(contents)],
  [4, ({ contents }) => decimalFraction(contents)],
  [5, ({ contents }) => bigfloat(contents)],
])

const plainOptions: DecodeOptions = {
  createObject: objectMaker(undefined),
  // Its own registry makes regular expressions, URLs and sets of what a stranger sends.
  ignoreGlobalTags: true,
  tags: tagDecoders,
  // The shape was checked, and is counted in another way here: an array twice, and every tag.
  maxDepth: 1024,
}

/** Every head once, from the first to the last, without recursion. */
function checkShape(bytes: Buffer): void {
  const shape = new BinaryShape()
  let at = 0
  let tags = 0
  while (!shape.isWhole) {
    if (at >= bytes.length) throw cutOff()
    const head = bytes[at++] as number
    const major = head >> 5
    const info = head & 0x1f
    const size = info < 24 ? 0 : info < 28 ? 1 << (info - 24) : info === 31 ? 0 : -1
    if (size < 0) throw new DecodeError('malformed', `not CBOR: ${info} is no length`)
    if (at + size > bytes.length) throw cutOff()
    const argument = info < 24 ? info : info === 31 ? Number.POSITIVE_INFINITY : argumentOf(bytes, at, size)
    at += size
    if (major === 6) {
      if (info === 31 || ++tags > maxTags) throw new DecodeError('malformed', 'not CBOR: tags without a value')
      shape.tag()
      continue
    }
    tags = 0
    switch (major) {
      case 2:
      case 3:
        // Each part of one without a length has its own head, and lies in it like an element.
        if (info === 31) shape.enter(argument)
        else {
          at += argument
          if (at > bytes.length) throw cutOff()
          shape.item()
        }
        break
      case 4:
        shape.enter(argument)
        break
      case 5:
        shape.enter(argument * 2)
        break
      case 7:
        if (info !== 31) shape.item()
        else if (!shape.end()) throw new DecodeError('malformed', 'not CBOR: an end without a beginning')
        break
      default:
        shape.item()
    }
  }
  if (at < bytes.length) throw new DecodeError('malformed', 'not CBOR: there are bytes behind its end')
}

function argumentOf(bytes: Buffer, at: number, size: number): number {
  if (size === 8) return bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4)
  return bytes.readUIntBE(at, size)
}

function cutOff(): DecodeError {
  return new DecodeError('malformed', 'not CBOR: it ends too early')
}

function objectMaker(labels: ReadonlyMap<number, string> | undefined): NonNullable<DecodeOptions['createObject']> {
  return (pairs) => {
    const object = Object.create(null) as Record<string, unknown>
    for (const [key, value] of pairs) {
      const name = nameOf(key, labels)
      // RFC 8949 §5.6: such a map is not valid, and nobody knows which was meant.
      if (name in object) throw new DecodeError('malformed', `key ${quoted(name)} is there twice`)
      object[name] = value
    }
    return object
  }
}

function nameOf(key: unknown, labels: ReadonlyMap<number, string> | undefined): string {
  if (typeof key === 'string') return key
  if (typeof key === 'bigint' || Number.isInteger(key)) return labels?.get(Number(key)) ?? String(key)
  throw new DecodeError('malformed', 'a key must be a text or an integer')
}

function bignum(contents: unknown): bigint {
  if (!(contents instanceof Uint8Array)) throw new DecodeError('malformed', 'a bignum must be a byte string')
  if (contents.length > maxBignumBytes)
    throw new DecodeError('bad_value', `a bignum has more than ${maxBignumBytes} bytes`)
  return contents.length === 0 ? 0n : BigInt(`0x${Buffer.from(contents).toString('hex')}`)
}

/** By its digits: the nearest double to what was written, not to a product. */
function decimalFraction(contents: unknown): number {
  const [exponent, mantissa] = partsOf(contents)
  return finite(Number(`${mantissa}e${exponent}`))
}

function bigfloat(contents: unknown): number {
  const [exponent, mantissa] = partsOf(contents)
  return finite(Number(mantissa) * 2 ** Number(exponent))
}

function partsOf(contents: unknown): [number | bigint, number | bigint] {
  const [exponent, mantissa, ...rest]: unknown[] = Array.isArray(contents) ? contents : []
  if (isInteger(exponent) && isInteger(mantissa) && rest.length === 0) return [exponent, mantissa]
  throw new DecodeError('malformed', 'a decimal fraction must be two integers')
}

function isInteger(value: unknown): value is number | bigint {
  return typeof value === 'bigint' || Number.isInteger(value)
}

function finite(value: number): number {
  if (Number.isFinite(value)) return value
  throw new DecodeError('bad_value', 'a number is too large for a double')
}

/** In place; as deep as the shape allows. */
function plain(value: unknown): unknown {
  if (typeof value !== 'object') {
    if (typeof value === 'bigint' && value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER)
      return Number(value)
    return value === undefined ? null : value
  }
  if (value === null || value instanceof Uint8Array) return value
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index++) value[index] = plain(value[index])
    return value
  }
  if (Object.getPrototypeOf(value) === null) {
    const object = value as Record<string, unknown>
    for (const key in object) object[key] = plain(object[key])
    return object
  }
  if ('contents' in value) return plain((value as Tag).contents)
  throw new DecodeError('bad_value', 'a simple value has no meaning here')
}

function asJson(value: unknown): unknown {
  if (typeof value === 'bigint') return exactInteger(value)
  if (typeof value !== 'object' || value === null) return value
  if (value instanceof Uint8Array)
    return Buffer.from(value.buffer, value.byteOffset, value.length).toString('base64url')
  if (Array.isArray(value)) for (let index = 0; index < value.length; index++) value[index] = asJson(value[index])
  else {
    const object = value as Record<string, unknown>
    for (const key in object) object[key] = asJson(object[key])
  }
  return value
}
