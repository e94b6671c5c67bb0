import { isUtf8 } from 'node:buffer'
import { decode, decodeTimestampToTimeSpec, ExtensionCodec } from '@msgpack/msgpack'
import { BinaryShape } from './binary-shape.ts'
import { DecodeError } from './decode-error.ts'
import { exactInteger } from './exact-integer.ts'

/**
 * One MessagePack object, as JSON could say it: integers beyond a double are texts of their digits, binaries are base64url, timestamps texts in UTC.
 * @throws {DecodeError}
 */
export function readMsgpack(bytes: Buffer): unknown {
  checkShape(bytes)
  try {
    return plain(decode(bytes, options))
  } catch (error) {
    if (error instanceof DecodeError) throw error
    throw new DecodeError('malformed', 'not MessagePack: an object is damaged')
  }
}

const extensions = new ExtensionCodec()
extensions.register({ type: -1, encode: () => null, decode: (data) => timestampText(data) })

const options = {
  useBigInt64: true,
  extensionCodec: extensions,
  mapKeyConverter(key: unknown): string {
    if (typeof key === 'string' || typeof key === 'bigint' || Number.isInteger(key)) return String(key)
    throw new DecodeError('malformed', 'a key must be a text or an integer')
  },
}

/** Bytes of the length that follows a head, by the head: bin, ext, str, array, map. */
const lengths = new Map([
  [0xc4, 1],
  [0xc5, 2],
  [0xc6, 4],
  [0xc7, 1],
  [0xc8, 2],
  [0xc9, 4],
  [0xd9, 1],
  [0xda, 2],
  [0xdb, 4],
  [0xdc, 2],
  [0xdd, 4],
  [0xde, 2],
  [0xdf, 4],
])

/** Every head once, from the first to the last: the library takes any depth, makes room for what a head announces, and reads texts that are no UTF-8. */
function checkShape(bytes: Buffer): void {
  const shape = new BinaryShape()
  let at = 0
  while (!shape.isWhole) {
    if (at >= bytes.length) throw cutOff()
    const head = bytes[at++] as number
    const size = lengths.get(head) ?? 0
    if (at + size > bytes.length) throw cutOff()
    const length = size === 0 ? 0 : bytes.readUIntBE(at, size)
    at += size
    if (head >= 0x80 && head <= 0x8f) shape.enter(2 * (head & 0x0f))
    else if (head >= 0x90 && head <= 0x9f) shape.enter(head & 0x0f)
    else if (head === 0xdc || head === 0xdd) shape.enter(length)
    else if (head === 0xde || head === 0xdf) shape.enter(2 * length)
    else {
      const end = at + bytesBehind(head, length)
      if (end > bytes.length) throw cutOff()
      if (isText(head) && !isUtf8(bytes.subarray(at, end))) throw new DecodeError('malformed', 'a text is not UTF-8')
      at = end
      shape.item()
    }
  }
  if (at < bytes.length) throw new DecodeError('malformed', 'not MessagePack: there are bytes behind its end')
}

/** @param length what the head tells, where it does */
function bytesBehind(head: number, length: number): number {
  if (head >= 0xa0 && head <= 0xbf) return head & 0x1f
  if (head >= 0xc4 && head <= 0xc6) return length
  if (head >= 0xc7 && head <= 0xc9) return 1 + length
  if (head >= 0xd4 && head <= 0xd8) return 1 + (1 << (head - 0xd4))
  if (head >= 0xd9 && head <= 0xdb) return length
  switch (head) {
    case 0xcc:
    case 0xd0:
      return 1
    case 0xcd:
    case 0xd1:
      return 2
    case 0xca:
    case 0xce:
    case 0xd2:
      return 4
    case 0xcb:
    case 0xcf:
    case 0xd3:
      return 8
    default:
      return 0
  }
}

function isText(head: number): boolean {
  return (head >= 0xa0 && head <= 0xbf) || (head >= 0xd9 && head <= 0xdb)
}

function cutOff(): DecodeError {
  return new DecodeError('malformed', 'not MessagePack: it ends too early')
}

/** With microseconds, which a Date does not have. */
function timestampText(data: Uint8Array): string {
  const { sec, nsec } = decodeTimestampToTimeSpec(data)
  const date = new Date(Number(sec) * 1000)
  if (Number.isNaN(date.getTime()) || date.getUTCFullYear() > 9999 || date.getUTCFullYear() < 0 || nsec > 999_999_999)
    throw new DecodeError('bad_value', 'a timestamp is out of range')
  return date.toISOString().replace('.000Z', `.${String(Math.floor(nsec / 1000)).padStart(6, '0')}Z`)
}

/** In place; as deep as the shape allows. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return exactInteger(value)
  if (typeof value !== 'object' || value === null) return value
  if (value instanceof Uint8Array)
    return Buffer.from(value.buffer, value.byteOffset, value.length).toString('base64url')
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index++) value[index] = plain(value[index])
    return value
  }
  if (Object.getPrototypeOf(value) !== Object.prototype)
    throw new DecodeError('unsupported', 'an extension type of MessagePack is not known here')
  const object = value as Record<string, unknown>
  for (const key in object) object[key] = plain(object[key])
  return object
}
