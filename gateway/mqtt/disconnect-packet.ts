import type { AcceptedConnect } from './connect.ts'
import { writeControlPacket } from './control-packet.ts'
import { packetType } from './packet-types.ts'

/** Small devices drop larger packets. */
const maxBytes = 256

/**
 * Our last words to a client.
 * @param text the reason, left out when the client wants none or has no room for it
 * @returns undefined when it has no room for any, or speaks 3.1.1, where a server just hangs up
 */
export function disconnectPacket(
  client: AcceptedConnect | undefined,
  code: number,
  text: string | undefined,
): Buffer | undefined {
  if (client?.version !== 5) return undefined
  if (text !== undefined && client.wantsProblemInformation) {
    const packet = writeControlPacket({ cmd: 'disconnect', reasonCode: code, properties: { reasonString: text } }, 5)
    if (packet !== undefined && packet.length <= Math.min(maxBytes, client.maxPacketBytes)) return packet
  }
  const bare = Buffer.from([packetType.disconnect << 4, 2, code, 0])
  return bare.length <= client.maxPacketBytes ? bare : undefined
}
