import { type ProtocolVersion, packetType, reasonCode } from '../packet-types.ts'
import { place, scanProperties } from './properties.ts'
import { Scan } from './scan.ts'

/** PUBACK and PUBREC (MQTT 5.0 §3.4.2.1, §3.5.2.1). */
const received = new Set([0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99])
/** PUBREL and PUBCOMP (§3.6.2.1, §3.7.2.1). */
const released = new Set([0x00, 0x92])

/**
 * What is wrong with a PUBACK, PUBREC, PUBREL or PUBCOMP (§3.4 to §3.7): in 3.1.1 a packet identifier and nothing else, in MQTT 5 a reason
 * code and properties may follow it.
 * @returns 0, or the reason code with which the connection ends
 */
export function faultOfAck(type: number, bytes: Buffer, body: number, end: number, version: ProtocolVersion): number {
  const size = end - body
  if (size < 2 || (size > 2 && version < 5)) return reasonCode.malformed
  if (bytes[body] === 0 && bytes[body + 1] === 0) return reasonCode.protocolError // [MQTT-2.2.1-3]
  if (size === 2) return 0
  const codes = type === packetType.puback || type === packetType.pubrec ? received : released
  // It must be one of those that the packet has [MQTT-3.4.2-1, 3.5.2-1, 3.6.2-1, 3.7.2-1].
  if (!codes.has(bytes[body + 2] as number)) return reasonCode.protocolError
  if (size === 3) return 0
  const scan = new Scan(bytes, body + 3, end)
  scanProperties(scan, place.ack)
  return scan.finish()
}
