import { BinaryShape } from './binary-shape.ts'
import { walkCbor } from './cbor-shape.ts'
import { DecodeError } from './decode-error.ts'
import { walkMsgpack } from './msgpack-shape.ts'

/**
 * The bytes of each element of a CBOR array, without reading them. The slices share the body's memory.
 * @returns undefined when the bytes are not one sound array, or one without elements
 */
export function splitCborArray(body: Buffer): Buffer[] | undefined {
  const head = body[0] ?? 0
  if (head >> 5 !== 4) return undefined
  return split(body, walkCbor, head !== 0x9f)
}

/** As `splitCborArray`, for MessagePack. */
export function splitMsgpackArray(body: Buffer): Buffer[] | undefined {
  const head = body[0] ?? 0
  if (head >> 4 !== 9 && head !== 0xdc && head !== 0xdd) return undefined
  return split(body, walkMsgpack, true)
}

/** @param isCounted an array that ends with its last element, not with a mark behind it */
function split(body: Buffer, walk: typeof walkCbor, isCounted: boolean): Buffer[] | undefined {
  const shape = new BinaryShape(false)
  const bounds: number[] = []
  try {
    walk(body, shape, (end) => {
      if (shape.level === 1) bounds.push(end)
    })
  } catch (error) {
    if (error instanceof DecodeError) return undefined
    throw error
  }
  if (isCounted) bounds.push(body.length)
  if (bounds.length < 2) return undefined
  return bounds.slice(1).map((end, index) => body.subarray(bounds[index], end))
}
