import type { Message } from './message.ts'
import { packetType, reasonCode } from './packet-types.ts'

const maxBytes = 5

/** PUBACKs and PUBRECs of `count` answered messages, from `first` on along `next`, as one piece. */
export function answerPackets(first: Message, count: number): Buffer {
  const bytes = Buffer.allocUnsafe(count * maxBytes)
  let length = 0
  let message: Message | undefined = first
  for (let left = count; left > 0 && message !== undefined; left--, message = message.next)
    length = put(
      bytes,
      length,
      message.qos === 1 ? packetType.puback : packetType.pubrec,
      message.packetId,
      message.answer,
    )
  return bytes.subarray(0, length)
}

/** PUBCOMP. */
export function pubcomp(packetId: number, code: number): Buffer {
  const bytes = Buffer.alloc(maxBytes)
  return bytes.subarray(0, put(bytes, 0, packetType.pubcomp, packetId, code))
}

/** Success needs no reason code (MQTT 5.0 §3.4.2.1), and looks as in 3.1.1. */
function put(bytes: Buffer, at: number, type: number, packetId: number, code: number): number {
  const isPlain = code === reasonCode.success
  bytes[at] = type << 4
  bytes[at + 1] = isPlain ? 2 : 3
  bytes[at + 2] = packetId >> 8
  bytes[at + 3] = packetId & 0xff
  if (isPlain) return at + 4
  bytes[at + 4] = code
  return at + 5
}
