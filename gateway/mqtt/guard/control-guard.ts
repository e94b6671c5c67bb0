import { type ProtocolVersion, packetType, reasonCode } from '../packet-types.ts'
import { faultOfAck } from './ack-guard.ts'
import { faultOfDisconnect } from './disconnect-guard.ts'
import { faultOfSubscribe, faultOfUnsubscribe } from './subscribe-guard.ts'

/** A packet may name more filters than a session may have, since each gets its answer; a list that is this many times longer is abuse. */
const listFactor = 8

/**
 * What MQTT 5.0 or 3.1.1 calls malformed or a protocol error in a packet that comes after CONNECT and is no PUBLISH. Asked before anything
 * else looks at the packet.
 * @param maxFilters of one session
 * @returns 0, or the reason code with which the connection ends: DISCONNECT in MQTT 5, just closed in 3.1.1 (MQTT 5.0 §4.13.1, 3.1.1 §4.8)
 */
export function faultOfControlPacket(
  bytes: Buffer,
  start: number,
  body: number,
  end: number,
  version: ProtocolVersion,
  maxFilters: number,
): number {
  const type = (bytes[start] as number) >> 4
  if (((bytes[start] as number) & 15) !== flagsOf(type)) return reasonCode.malformed // [MQTT-2.1.3-1], in 3.1.1 [MQTT-2.2.2-2]
  switch (type) {
    case packetType.pingreq:
      return end === body ? 0 : reasonCode.malformed // §3.12
    case packetType.puback:
    case packetType.pubrec:
    case packetType.pubrel:
    case packetType.pubcomp:
      return faultOfAck(type, bytes, body, end, version)
    case packetType.subscribe:
      return faultOfSubscribe(bytes, body, end, version, maxFilters * listFactor)
    case packetType.unsubscribe:
      return faultOfUnsubscribe(bytes, body, end, version, maxFilters * listFactor)
    case packetType.disconnect:
      return faultOfDisconnect(bytes, body, end, version)
    default:
      // A second CONNECT [MQTT-3.1.0-2]; what only servers send; AUTH, which nobody may send whose CONNECT named no method [MQTT-4.12.0-7],
      // and one that does is not let in.
      return reasonCode.protocolError
  }
}

/** The flags that a packet's type asks for (MQTT 5.0 §2.1.3); -1 for the type that does not exist. */
function flagsOf(type: number): number {
  if (type === 0) return -1
  return type === packetType.subscribe || type === packetType.unsubscribe || type === packetType.pubrel ? 2 : 0
}
