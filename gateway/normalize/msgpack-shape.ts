import { isUtf8 } from 'node:buffer'
import type { BinaryShape } from './binary-shape.ts'
import { DecodeError } from './decode-error.ts'

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

/**
 * Every head of one MessagePack object once, from the first to the last: the library takes any depth, makes room for what a head announces, and
 * reads texts that are no UTF-8.
 * @param onHead called with the place behind each head and what belongs to it alone
 * @throws {DecodeError}
 */
export function walkMsgpack(bytes: Buffer, shape: BinaryShape, onHead?: (end: number) => void): void {
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
    onHead?.(at)
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
