import { type ProtocolVersion, reasonCode } from '../packet-types.ts'
import { place, scanProperties, seen } from './properties.ts'
import { Scan } from './scan.ts'

/** Connect flags (MQTT 5.0 §3.1.2.3). */
const flag = { reserved: 0x01, will: 0x04, willQos: 0x18, willRetain: 0x20, password: 0x40, userName: 0x80 } as const

/**
 * What is wrong with a CONNECT, from behind its protocol level on (MQTT 5.0 §3.1, 3.1.1 §3.1; 3.1 is read like 3.1.1). Whether the will's
 * topic is one that this client may publish to is another question, and comes after who it is.
 * @param at of the connect flags
 * @returns 0, or the reason code with which the connection ends: a CONNACK in MQTT 5, none in 3.1.1 [MQTT-3.1.4-1]
 */
export function faultOfConnect(bytes: Buffer, at: number, end: number, version: ProtocolVersion): number {
  const scan = new Scan(bytes, at, end)
  const flags = scan.byte()
  scan.uint16() // keep alive
  if (scan.fault !== 0 || !areFlagsLegal(flags, version)) return reasonCode.malformed
  if (version === 5) {
    const found = scanProperties(scan, place.connect)
    if ((found & seen.authenticationData) !== 0 && (found & seen.authenticationMethod) === 0)
      scan.fail(reasonCode.protocolError) // §3.1.2.11.10
  }
  scan.text() // client identifier [MQTT-3.1.3-4]
  if ((flags & flag.will) !== 0) {
    if (version === 5) scanProperties(scan, place.will)
    scan.text() // will topic [MQTT-3.1.3-11]
    scan.binary()
  }
  if ((flags & flag.userName) !== 0) scan.text() // [MQTT-3.1.3-12]
  if ((flags & flag.password) !== 0) scan.binary()
  return scan.finish()
}

function areFlagsLegal(flags: number, version: ProtocolVersion): boolean {
  if ((flags & flag.reserved) !== 0) return false // [MQTT-3.1.2-3]
  // Without a will neither its QoS nor its retain flag is set [MQTT-3.1.2-11, -13], in 3.1.1 [-13, -15].
  if ((flags & flag.will) === 0 && (flags & (flag.willQos | flag.willRetain)) !== 0) return false
  if ((flags & flag.willQos) === flag.willQos) return false // QoS 3 [MQTT-3.1.2-12], in 3.1.1 [-14]
  // A password without a user name exists from MQTT 5 on [MQTT-3.1.2-22 of 3.1.1].
  return version === 5 || (flags & flag.userName) !== 0 || (flags & flag.password) === 0
}
