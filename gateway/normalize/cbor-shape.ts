import type { BinaryShape } from './binary-shape.ts'
import { DecodeError } from './decode-error.ts'

/** Tags in a row; more mean nothing. */
const maxTags = 4

/**
 * Every head of one CBOR data item once, from the first to the last, without recursion.
 * @param onHead called with the place behind each head and what belongs to it alone
 * @throws {DecodeError}
 */
export function walkCbor(bytes: Buffer, shape: BinaryShape, onHead?: (end: number) => void): void {
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
    onHead?.(at)
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
