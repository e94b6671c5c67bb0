import { readCborAsJson } from './cbor-document.ts'
import type { Codec } from './codec.ts'
import type { CodecInput } from './codec-input.ts'
import { DecodeError } from './decode-error.ts'
import { decodeDocument } from './generic.ts'
import { readMsgpack } from './msgpack-document.ts'

/** The own form and generic objects, arrays and single values, in encodings that are no text. */
export const cborCodec: Codec = { name: 'cbor', decode: (input) => decodeAs(input, readCborAsJson) }
export const msgpackCodec: Codec = { name: 'msgpack', decode: (input) => decodeAs(input, readMsgpack) }

/** White space is content here: 0x20 is -1 in CBOR, and 32 in MessagePack. */
function decodeAs(input: CodecInput, read: (bytes: Buffer) => unknown): ReturnType<Codec['decode']> {
  if (input.payload.length === 0) throw new DecodeError('empty', 'there is nothing in it')
  return decodeDocument(input.context, read(input.payload))
}
