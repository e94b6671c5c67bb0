import { type ProtocolVersion, reasonCode } from '../packet-types.ts'
import { place, scanProperties } from './properties.ts'
import { Scan } from './scan.ts'

/** Subscription options (MQTT 5.0 §3.8.3.1). */
const option = { qos: 0x03, noLocal: 0x04, retainHandling: 0x30, reserved: 0xc0 } as const
const sharePrefix = Buffer.from('$share/')

/**
 * What is wrong with a SUBSCRIBE (MQTT 5.0 §3.8, 3.1.1 §3.8). A filter that is not allowed, or none by its wildcards, is no fault of the
 * packet: it gets its code in the SUBACK.
 * @param maxFilters of one packet
 * @returns 0, or the reason code with which the connection ends
 */
export function faultOfSubscribe(
  bytes: Buffer,
  body: number,
  end: number,
  version: ProtocolVersion,
  maxFilters: number,
): number {
  const scan = new Scan(bytes, body, end)
  scan.packetId()
  if (version === 5) scanProperties(scan, place.subscribe)
  if (scan.fault === 0 && scan.isAtEnd) return reasonCode.protocolError // no filter at all [MQTT-3.8.3-2], in 3.1.1 [-3]
  for (let count = 1; !scan.isAtEnd; count++) {
    if (count > maxFilters) return reasonCode.quotaExceeded
    const length = scanFilter(scan)
    const filterAt = scan.at - length
    const options = scan.byte()
    if (scan.fault !== 0) break
    const fault = version === 5 ? faultOfOptions(options) : options > 2 ? reasonCode.malformed : 0 // [MQTT-3-8.3-4]
    if (fault !== 0) return fault
    const isShared = length > sharePrefix.length && sharePrefix.compare(bytes, filterAt, filterAt + 7) === 0
    if (isShared && version === 5 && (options & option.noLocal) !== 0) return reasonCode.protocolError // [MQTT-3.8.3-4]
  }
  return scan.finish()
}

/** What is wrong with an UNSUBSCRIBE (§3.10). @param maxFilters of one packet */
export function faultOfUnsubscribe(
  bytes: Buffer,
  body: number,
  end: number,
  version: ProtocolVersion,
  maxFilters: number,
): number {
  const scan = new Scan(bytes, body, end)
  scan.packetId()
  if (version === 5) scanProperties(scan, place.unsubscribe)
  if (scan.fault === 0 && scan.isAtEnd) return reasonCode.protocolError // [MQTT-3.10.3-2]
  for (let count = 1; !scan.isAtEnd; count++) {
    if (count > maxFilters) return reasonCode.quotaExceeded
    scanFilter(scan)
  }
  return scan.finish()
}

/** At least one character [MQTT-4.7.3-1]. @returns its length in bytes */
function scanFilter(scan: Scan): number {
  const length = scan.text()
  if (length === 0) scan.fail(reasonCode.protocolError)
  return length
}

function faultOfOptions(options: number): number {
  if ((options & option.reserved) !== 0) return reasonCode.malformed // [MQTT-3.8.3-5]
  const isLegal = (options & option.qos) !== 3 && (options & option.retainHandling) !== option.retainHandling
  return isLegal ? 0 : reasonCode.protocolError
}
