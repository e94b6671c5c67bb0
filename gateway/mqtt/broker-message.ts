import type { PublishPacket } from 'aedes'

/** A message from a client to others. */
export interface BrokerMessage {
  readonly insideTopic: string
  readonly payload: Buffer
  readonly qos: 0 | 1 | 2
  readonly retain: boolean
  /** Its properties, as they were written. */
  readonly properties: Buffer | undefined
  /** 0: it does not expire. */
  readonly expirySeconds: number
}

/** What Aedes adds to a message that it keeps. */
export type KeptPacket = PublishPacket & { messageExpiry?: number }

export function packetOf({ insideTopic, payload, qos, retain, properties, expirySeconds }: BrokerMessage): KeptPacket {
  // As bytes: Aedes would hand on objects by what is written in them, where a name like __proto__ gets lost.
  const carried = {
    ...(properties !== undefined && { correlationData: properties }),
    ...(expirySeconds > 0 && { messageExpiryInterval: expirySeconds }),
  }
  return { cmd: 'publish', topic: insideTopic, payload, qos, retain, dup: false, properties: carried }
}

/** The message that a packet of Aedes was made of. */
export function messageOf({ topic, payload, qos, retain, properties }: KeptPacket): BrokerMessage {
  const carried = properties?.correlationData
  return {
    insideTopic: topic,
    payload: Buffer.from(payload),
    qos: qos as 0 | 1 | 2,
    retain,
    properties: carried === undefined ? undefined : Buffer.from(carried),
    expirySeconds: properties?.messageExpiryInterval ?? 0,
  }
}
