import type { BrokerMessage } from '../broker-message.ts'

/** A message as gateways tell it to one another, and as it lies in Redis. */
export interface WireMessage {
  /** The gateway that it came to, and its number there. */
  readonly gateway: string
  readonly count: number
  /** Inside id of its sender. */
  readonly from: string
  /** Inside name of the device whose share of retained bytes it takes. */
  readonly owner: string
  /** Milliseconds since the epoch; 0: it does not expire. */
  readonly expiresAtMs: number
  readonly message: BrokerMessage
}

/** The header; what it does not have is false or 0. */
interface Header {
  readonly g: string
  readonly n: number
  readonly f: string
  readonly o: string
  readonly e: number
  readonly t: string
  readonly q: 0 | 1 | 2
  readonly r: 0 | 1
  /** Bytes of properties; -1 without. */
  readonly p: number
}

/** Length of the header in four bytes, the header as JSON, properties, payload. */
export function encodeMessage({ gateway, count, from, owner, expiresAtMs, message }: WireMessage): Buffer {
  const { insideTopic, payload, qos, retain, properties } = message
  const header: Header = {
    g: gateway,
    n: count,
    f: from,
    o: owner,
    e: expiresAtMs,
    t: insideTopic,
    q: qos,
    r: retain ? 1 : 0,
    p: properties?.length ?? -1,
  }
  const json = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(4)
  length.writeUInt32BE(json.length)
  return Buffer.concat(properties === undefined ? [length, json, payload] : [length, json, properties, payload])
}

/** @returns undefined for bytes that are no message, or one that has expired */
export function decodeMessage(bytes: Buffer, nowMs = Date.now()): WireMessage | undefined {
  if (bytes.length < 4) return undefined
  const bodyAt = 4 + bytes.readUInt32BE(0)
  if (bodyAt > bytes.length) return undefined
  const header = readHeader(bytes.toString('utf8', 4, bodyAt))
  if (header === undefined || (header.e > 0 && header.e <= nowMs)) return undefined
  const payloadAt = bodyAt + Math.max(0, header.p)
  if (payloadAt > bytes.length) return undefined
  return {
    gateway: header.g,
    count: header.n,
    from: header.f,
    owner: header.o,
    expiresAtMs: header.e,
    message: {
      insideTopic: header.t,
      // Copied: what is kept of it must not keep the chunk alive in which it came.
      payload: Buffer.from(bytes.subarray(payloadAt)),
      qos: header.q,
      retain: header.r === 1,
      properties: header.p < 0 ? undefined : Buffer.from(bytes.subarray(bodyAt, payloadAt)),
      expirySeconds: header.e === 0 ? 0 : Math.max(1, Math.ceil((header.e - nowMs) / 1000)),
    },
  }
}

/** What the scripts write: the number that they gave it, a line feed, the message. */
export function readNumbered(bytes: Buffer): { number: number; encoded: Buffer } | undefined {
  const end = bytes.indexOf(0x0a)
  const number = Number(bytes.toString('latin1', 0, Math.max(0, end)))
  return end <= 0 || !Number.isSafeInteger(number) ? undefined : { number, encoded: bytes.subarray(end + 1) }
}

function readHeader(json: string): Header | undefined {
  try {
    const header = JSON.parse(json) as Header
    const isOne =
      typeof header.t === 'string' &&
      typeof header.g === 'string' &&
      typeof header.f === 'string' &&
      typeof header.o === 'string' &&
      [header.n, header.e, header.p].every(Number.isSafeInteger) &&
      [0, 1, 2].includes(header.q)
    return isOne ? header : undefined
  } catch {
    return undefined
  }
}
