import { decode, decodeTimestampToTimeSpec, ExtensionCodec } from '@msgpack/msgpack'
import { BinaryShape } from './binary-shape.ts'
import { DecodeError } from './decode-error.ts'
import { exactInteger } from './exact-integer.ts'
import { walkMsgpack } from './msgpack-shape.ts'

/**
 * One MessagePack object, as JSON could say it: integers beyond a double are texts of their digits, binaries are base64url, timestamps texts in UTC.
 * @throws {DecodeError}
 */
export function readMsgpack(bytes: Buffer): unknown {
  walkMsgpack(bytes, new BinaryShape())
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
