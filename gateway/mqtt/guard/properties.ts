import { reasonCode } from '../packet-types.ts'
import type { Scan } from './scan.ts'
import { hasWildcard } from './text.ts'

/** Where properties stand in what a client sends, a bit each. */
export const place = {
  connect: 1,
  will: 2,
  publish: 4,
  subscribe: 8,
  unsubscribe: 16,
  ack: 32,
  disconnect: 64,
} as const

/** Bits of what `scanProperties` has seen. */
export const seen = { authenticationMethod: 1 << 7, authenticationData: 1 << 8 } as const

type Value =
  /** A byte that is 0 or 1. */
  | 'flag'
  | 'uint16'
  | 'uint32'
  /** 0 is a protocol error. */
  | 'nonzero16'
  | 'nonzero32'
  | 'nonzeroVariable'
  | 'text'
  | 'topicName'
  | 'binary'
  | 'pair'

interface Property {
  readonly value: Value
  readonly places: number
  /** Its place in the set of what was seen; 0 for the one that may come again. */
  readonly bit: number
  /** Where the identifier is known for the packet, but only a server sends it. */
  readonly serverOnly?: number
}

/** MQTT 5.0 §2.2.2.2, table 2-4, as far as clients send them. */
const properties = new Map<number, Property>([
  [0x01, { value: 'flag', places: place.publish | place.will, bit: 1 << 0 }], // payload format indicator
  [0x02, { value: 'uint32', places: place.publish | place.will, bit: 1 << 1 }], // message expiry interval
  [0x03, { value: 'text', places: place.publish | place.will, bit: 1 << 2 }], // content type
  [0x08, { value: 'topicName', places: place.publish | place.will, bit: 1 << 3 }], // response topic
  [0x09, { value: 'binary', places: place.publish | place.will, bit: 1 << 4 }], // correlation data
  // Subscription identifier; of a client's PUBLISH never [MQTT-3.3.4-6].
  [0x0b, { value: 'nonzeroVariable', places: place.subscribe, bit: 1 << 5, serverOnly: place.publish }],
  [0x11, { value: 'uint32', places: place.connect | place.disconnect, bit: 1 << 6 }], // session expiry interval
  [0x15, { value: 'text', places: place.connect, bit: seen.authenticationMethod }],
  [0x16, { value: 'binary', places: place.connect, bit: seen.authenticationData }],
  [0x17, { value: 'flag', places: place.connect, bit: 1 << 9 }], // request problem information
  [0x18, { value: 'uint32', places: place.will, bit: 1 << 10 }], // will delay interval
  [0x19, { value: 'flag', places: place.connect, bit: 1 << 11 }], // request response information
  [0x1c, { value: 'text', places: 0, bit: 1 << 12, serverOnly: place.disconnect }], // server reference
  [0x1f, { value: 'text', places: place.ack | place.disconnect, bit: 1 << 13 }], // reason string
  [0x21, { value: 'nonzero16', places: place.connect, bit: 1 << 14 }], // receive maximum (§3.1.2.11.3)
  [0x22, { value: 'uint16', places: place.connect, bit: 1 << 15 }], // topic alias maximum
  [0x23, { value: 'nonzero16', places: place.publish, bit: 1 << 16 }], // topic alias [MQTT-3.3.2-8]
  [0x26, { value: 'pair', places: 0x7f, bit: 0 }], // user property
  [0x27, { value: 'nonzero32', places: place.connect, bit: 1 << 17 }], // maximum packet size (§3.1.2.11.4)
])

/**
 * Walks over the properties of a packet, their length included. An identifier that is unknown, or not for this packet, is malformed
 * (§2.2.2.2); one that comes again, or has a value that its own section rules out, is a protocol error.
 * @returns what was seen, as bits of `seen`
 */
export function scanProperties(scan: Scan, where: number): number {
  const length = scan.variableByteInteger()
  const outer = scan.end
  const stop = scan.at + length
  if (scan.fault !== 0 || stop > outer) {
    scan.fail(reasonCode.malformed)
    return 0
  }
  scan.end = stop // no property reaches into what follows
  let found = 0
  while (!scan.isAtEnd) {
    // An identifier is a variable byte integer, but all that exist have one byte.
    const property = properties.get(scan.byte())
    if (property === undefined) scan.fail(reasonCode.malformed)
    else if ((property.places & where) === 0)
      scan.fail(((property.serverOnly ?? 0) & where) === 0 ? reasonCode.malformed : reasonCode.protocolError)
    else if ((found & property.bit) !== 0) scan.fail(reasonCode.protocolError)
    else {
      found |= property.bit
      scanValue(scan, property.value)
    }
  }
  scan.end = outer
  scan.at = scan.fault === 0 ? stop : outer
  return found
}

function scanValue(scan: Scan, value: Value): void {
  switch (value) {
    case 'flag':
      if (scan.byte() > 1) scan.fail(reasonCode.protocolError)
      break
    case 'uint16':
      scan.uint16()
      break
    case 'uint32':
      scan.uint32()
      break
    case 'nonzero16':
      if (scan.uint16() === 0) scan.fail(reasonCode.protocolError)
      break
    case 'nonzero32':
      if (scan.uint32() === 0) scan.fail(reasonCode.protocolError)
      break
    case 'nonzeroVariable':
      if (scan.variableByteInteger() === 0) scan.fail(reasonCode.protocolError)
      break
    case 'text':
      scan.text()
      break
    case 'topicName': {
      // Never empty [MQTT-4.7.3-1], no wildcards [MQTT-3.3.2-14].
      const length = scan.text()
      if (length === 0 || hasWildcard(scan.bytes, scan.at - length, scan.at)) scan.fail(reasonCode.protocolError)
      break
    }
    case 'binary':
      scan.binary()
      break
    case 'pair':
      scan.text()
      scan.text()
      break
  }
}
