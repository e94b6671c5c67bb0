import { generate, type Packet, parser } from 'mqtt-packet'
import type { ProtocolVersion } from './packet-types.ts'

/**
 * Reads one whole packet that is no PUBLISH: CONNECT, SUBSCRIBE and their like come seldom, so they may cost a parser each.
 * @returns undefined when it is malformed
 */
export function readControlPacket(bytes: Buffer, version: ProtocolVersion): Packet | undefined {
  let packet: Packet | undefined
  let failed = false
  try {
    const reader = parser({ protocolVersion: version })
    reader.on('packet', (read) => {
      packet ??= read
    })
    reader.on('error', () => {
      failed = true
    })
    reader.parse(bytes)
  } catch {
    return undefined // the parser trusts lengths inside of a packet in places
  }
  return failed ? undefined : packet
}

/** @returns undefined for a packet that cannot be written, which is a fault of whoever made it */
export function writeControlPacket(packet: Packet, version: ProtocolVersion): Buffer | undefined {
  try {
    return generate(packet, { protocolVersion: version })
  } catch {
    return undefined
  }
}
