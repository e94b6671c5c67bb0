import { faultOfText, hasWildcard } from './guard/text.ts'
import { reasonCode } from './packet-types.ts'

/** Where the parts of one PUBLISH lie. One object is filled again and again: nothing is allocated for a packet without properties. */
export class PublishPacket {
  qos = 0
  dup = false
  topicStart = 0
  topicEnd = 0
  /** 0 at QoS 0. */
  packetId = 0
  payloadStart = 0
  end = 0
  /** 0 when there is none. */
  topicAlias = 0
  contentType: string | undefined = undefined
  /** Where its properties lie, without their length; nothing in 3.1.1. */
  propertiesStart = 0
  propertiesEnd = 0
  /** Seconds after which it is worth nothing any more; 0 when it says nothing of that. */
  expirySeconds = 0
  retain = false

  /**
   * Reads bytes[start, end) with its variable header at `body` (MQTT 5.0 §3.3, 3.1.1 §3.3).
   * @param version protocol level; properties exist from 5 on
   * @returns 0, or the reason code with which the connection ends
   */
  read(bytes: Buffer, start: number, body: number, end: number, version: number): number {
    const flags = bytes[start] as number
    this.qos = (flags >> 1) & 3
    this.dup = (flags & 8) !== 0
    this.retain = (flags & 1) !== 0
    if (this.qos === 3 || (this.qos === 0 && this.dup)) return reasonCode.malformed
    if (end - body < 2) return reasonCode.malformed
    this.topicStart = body + 2
    this.topicEnd = this.topicStart + uint16(bytes, body)
    let at = this.topicEnd
    this.packetId = 0
    if (this.qos > 0) {
      if (at + 2 > end) return reasonCode.malformed
      this.packetId = uint16(bytes, at)
      if (this.packetId === 0) return reasonCode.protocolError
      at += 2
    }
    if (at > end) return reasonCode.malformed
    this.topicAlias = 0
    this.contentType = undefined
    this.expirySeconds = 0
    this.end = end
    this.payloadStart = this.propertiesStart = this.propertiesEnd = at
    if (version < 5) return 0
    if (bytes[at] === 0 && at < end) {
      this.payloadStart = at + 1
      return 0
    }
    return this.#readProperties(bytes, at, end)
  }

  #readProperties(bytes: Buffer, at: number, end: number): number {
    const length = readVariable(bytes, at, end)
    if (length < 0) return reasonCode.malformed
    let next = at + variableSize(length)
    const stop = next + length
    if (stop > end) return reasonCode.malformed
    this.payloadStart = this.propertiesEnd = stop
    this.propertiesStart = next
    let seen = 0
    while (next < stop) {
      const id = bytes[next++] as number
      const size = sizeOfValue(id, bytes, next, stop)
      if (size < 0) return size === notForClients ? reasonCode.protocolError : reasonCode.malformed
      if (id !== property.userProperty) {
        const bit = id === property.topicAlias ? 1 : 1 << id // the others are below 32, and none is 0
        if ((seen & bit) !== 0) return reasonCode.protocolError // more than once
        seen |= bit
      }
      const fault = this.#readProperty(id, bytes, next, size)
      if (fault !== 0) return fault
      next += size
    }
    return 0
  }

  #readProperty(id: number, bytes: Buffer, at: number, size: number): number {
    switch (id) {
      case property.topicAlias:
        this.topicAlias = uint16(bytes, at)
        return this.topicAlias === 0 ? reasonCode.topicAliasInvalid : 0
      case property.messageExpiryInterval:
        this.expirySeconds = bytes.readUInt32BE(at)
        return 0
      case property.contentType: {
        const fault = faultOfText(bytes, at + 2, at + size) // [MQTT-3.3.2-19]
        if (fault === 0) this.contentType = bytes.toString('utf8', at + 2, at + size)
        return fault
      }
      case property.payloadFormatIndicator:
        // What the payload really is shows when it is decoded; saying UTF-8 of other bytes is no protocol error (§3.3.2.3.2).
        return (bytes[at] as number) > 1 ? reasonCode.protocolError : 0
      case property.responseTopic:
        // Never empty [MQTT-4.7.3-1], no wildcards [MQTT-3.3.2-14].
        if (size === 2 || hasWildcard(bytes, at + 2, at + size)) return reasonCode.protocolError
        return faultOfText(bytes, at + 2, at + size) // [MQTT-3.3.2-13]
      case property.userProperty: {
        const middle = at + 2 + uint16(bytes, at)
        return faultOfText(bytes, at + 2, middle) || faultOfText(bytes, middle + 2, at + size) // [MQTT-1.5.7-1]
      }
      default:
        return 0
    }
  }
}

/**
 * The properties that a message keeps on its way to other clients, as they were written, or none: all but its topic alias, which belongs to one
 * connection, and its expiry, which runs down.
 * @param packet one that `read` has found nothing wrong with
 */
export function keptProperties(packet: PublishPacket, bytes: Buffer): Buffer | undefined {
  const { propertiesStart, propertiesEnd } = packet
  const kept: Buffer[] = []
  for (let at = propertiesStart; at < propertiesEnd; ) {
    const id = bytes[at] as number
    const next = at + 1 + sizeOfValue(id, bytes, at + 1, propertiesEnd)
    if (id !== property.topicAlias && id !== property.messageExpiryInterval) kept.push(bytes.subarray(at, next))
    at = next
  }
  return kept.length === 0 ? undefined : Buffer.concat(kept)
}

/** The bytes of the one property under which `keptProperties` cross the broker. */
export function carriedProperties(packet: PublishPacket, bytes: Buffer): Buffer | undefined {
  for (let at = packet.propertiesStart; at < packet.propertiesEnd; ) {
    const id = bytes[at] as number
    const next = at + 1 + sizeOfValue(id, bytes, at + 1, packet.propertiesEnd)
    if (id === property.correlationData) return bytes.subarray(at + 3, next)
    at = next
  }
  return undefined
}

/** Properties of a PUBLISH (MQTT 5.0 §3.3.2.3). */
export const property = {
  payloadFormatIndicator: 0x01,
  messageExpiryInterval: 0x02,
  contentType: 0x03,
  responseTopic: 0x08,
  correlationData: 0x09,
  subscriptionIdentifier: 0x0b,
  topicAlias: 0x23,
  userProperty: 0x26,
} as const

const malformed = -1
const notForClients = -2

/** Bytes of a property's value; negative when it has none that fits. */
function sizeOfValue(id: number, bytes: Buffer, at: number, stop: number): number {
  switch (id) {
    case property.payloadFormatIndicator:
      return fits(1, at, stop)
    case property.messageExpiryInterval:
      return fits(4, at, stop)
    case property.topicAlias:
      return fits(2, at, stop)
    case property.contentType:
    case property.responseTopic:
    case property.correlationData:
      return sizeOfBinary(bytes, at, stop)
    case property.userProperty: {
      const name = sizeOfBinary(bytes, at, stop)
      if (name < 0) return malformed
      const value = sizeOfBinary(bytes, at + name, stop)
      return value < 0 ? malformed : name + value
    }
    case property.subscriptionIdentifier:
      return notForClients // only a server sends it [MQTT-3.3.4-6]
    default:
      return malformed
  }
}

function sizeOfBinary(bytes: Buffer, at: number, stop: number): number {
  return at + 2 > stop ? malformed : fits(2 + uint16(bytes, at), at, stop)
}

function fits(size: number, at: number, stop: number): number {
  return at + size > stop ? malformed : size
}

/** Value of a variable byte integer (§1.5.5); -1 when it is cut off or longer than four bytes. */
function readVariable(bytes: Buffer, at: number, end: number): number {
  let value = 0
  for (let index = 0; index < 4; index++) {
    if (at + index >= end) return -1
    const byte = bytes[at + index] as number
    value |= (byte & 0x7f) << (7 * index)
    if (byte < 0x80) return byte === 0 && index > 0 ? -1 : value
  }
  return -1
}

function variableSize(value: number): number {
  if (value < 0x80) return 1
  if (value < 0x4000) return 2
  return value < 0x20_0000 ? 3 : 4
}

function uint16(bytes: Buffer, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number)
}
