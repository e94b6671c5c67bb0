import { type ProtocolVersion, reasonCode } from '../packet-types.ts'
import { place, scanProperties } from './properties.ts'
import { Scan } from './scan.ts'

/** Reason codes of a DISCONNECT that a client may send (MQTT 5.0 §3.14.2.1). */
const ofClients = new Set([0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99])

/**
 * What is wrong with a DISCONNECT (MQTT 5.0 §3.14, 3.1.1 §3.14): in 3.1.1 it has nothing behind its fixed header.
 * @returns 0, or the reason code with which the connection ends
 */
export function faultOfDisconnect(bytes: Buffer, body: number, end: number, version: ProtocolVersion): number {
  if (end === body) return 0
  if (version < 5) return reasonCode.malformed
  if (!ofClients.has(bytes[body] as number)) return reasonCode.protocolError // [MQTT-3.14.2-1]
  if (end === body + 1) return 0
  const scan = new Scan(bytes, body + 1, end)
  scanProperties(scan, place.disconnect)
  return scan.finish()
}
