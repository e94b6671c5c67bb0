import type { Principal } from '../auth/principal.ts'
import type { Client } from './client.ts'
import type { AcceptedConnect } from './connect.ts'
import { maySee } from './device-topics.ts'
import { variableByteInteger } from './frame.ts'
import type { Front } from './front.ts'
import type { GrantedFilter } from './granted-filter.ts'
import { packetType } from './packet-types.ts'
import { carriedProperties, PublishPacket, property } from './publish-packet.ts'
import type { TenantStats } from './sys-topics.ts'
import { covers } from './topic-filter.ts'

/** Why a message was not delivered, for `fleetbridge_mqtt_deliveries_dropped_total`. */
export const deliveryDropReasons = ['not_allowed', 'too_large', 'slow_reader', 'queue_full', 'session_full'] as const
export type DeliveryDropReason = (typeof deliveryDropReasons)[number]

/** What a connection gives to its deliveries. */
export interface DeliveryHost {
  /** Bytes that wait for the client to read them. */
  readonly unreadBytes: number
  write(bytes: Buffer): void
  toBroker(bytes: Buffer): void
}

/** Past it nothing more is written to a client that does not read. */
const maxUnreadBytes = 256 * 1024
/** Messages without an acknowledgement, also for a client that would take more. */
const maxInFlight = 100
const maxWaitingMessages = 1000
const maxWaitingBytes = 1024 * 1024
const maxTopicAliases = 32

/** One message as a client may see it. */
interface Seen {
  readonly topic: string
  readonly qos: number
  readonly ids: readonly number[]
}

/**
 * What goes from the broker to one client: names as the client knows them, its rights once more, its Receive Maximum and Maximum Packet Size, topic
 * aliases, and an end to what a slow client may pile up. Aedes does none of that.
 */
export class Deliveries {
  readonly #front: Front
  readonly #host: DeliveryHost
  readonly #client: Client
  readonly #principal: Principal
  readonly #connect: AcceptedConnect
  readonly #stats: TenantStats
  readonly #maxInFlight: number
  /** Packet ids that the client has to acknowledge: QoS 2 until its PUBCOMP. */
  readonly #inFlight = new Set<number>()
  readonly #aliases = new Map<string, number>()
  /** Packets of the broker that wait for their turn. */
  #waiting: Buffer[] = []
  #waitingBytes = 0
  readonly #packet = new PublishPacket()

  constructor(front: Front, host: DeliveryHost, client: Client, connect: AcceptedConnect) {
    this.#front = front
    this.#host = host
    this.#client = client
    this.#principal = connect.principal
    this.#connect = connect
    this.#stats = front.sys.statsOf(connect.principal.tenant)
    this.#maxInFlight = Math.min(connect.receiveMaximum, maxInFlight)
  }

  /** A PUBLISH of the broker. */
  onPublish(bytes: Buffer, start: number, body: number, end: number): void {
    const qos = ((bytes[start] as number) >> 1) & 3
    const isUnread = this.#host.unreadBytes > maxUnreadBytes
    if (qos === 0) {
      if (isUnread) this.#drop('slow_reader')
      else this.#deliver(bytes, start, body, end)
    } else if (this.#waiting.length > 0 || isUnread || this.#inFlight.size >= this.#maxInFlight)
      this.#wait(bytes, start, end)
    else this.#deliver(bytes, start, body, end)
  }

  /** PUBREL of the broker. */
  onRelease(packet: Buffer, body: number): void {
    this.#inFlight.add(packet.readUInt16BE(body))
    this.#host.write(packet)
  }

  /** PUBACK, PUBREC or PUBCOMP of the client. Those that answer nothing are nobody's. */
  onAcknowledgement(packet: Buffer, body: number): void {
    if (packet.length < body + 2) return
    const type = (packet[0] as number) >> 4
    const packetId = packet.readUInt16BE(body)
    if (!this.#inFlight.has(packetId)) return
    const isRefusal = packet.length > body + 2 && (packet[body + 2] as number) >= 0x80
    if (type === packetType.pubrec && !isRefusal) {
      this.#host.toBroker(packet)
      return
    }
    this.#inFlight.delete(packetId)
    this.#complete(packetId)
    this.onRoom()
  }

  /** What waits may go on: the client has acknowledged something, or read what was written. */
  onRoom(): void {
    while (this.#inFlight.size < this.#maxInFlight && this.#host.unreadBytes <= maxUnreadBytes) {
      const packet = this.#waiting.shift()
      if (packet === undefined) return
      this.#waitingBytes -= packet.length
      this.#deliver(packet, 0, bodyOf(packet), packet.length)
    }
  }

  /** A message that is for this client alone: QoS 0, sent as a retained one is. */
  deliverRetained(topic: string, payload: Buffer, filters: readonly GrantedFilter[]): void {
    const ids = filters.flatMap(({ id }) => (id === undefined ? [] : [id]))
    const parts = { packetId: 0, flags: 1, expirySeconds: 0, properties: undefined, payload }
    const packet = this.#packetOf({ topic, qos: 0, ids }, parts)
    if (packet === undefined) this.#drop('too_large')
    else this.#write(packet)
  }

  #wait(bytes: Buffer, start: number, end: number): void {
    // The broker keeps its copy for a session that outlives the connection, and sends it again on the next.
    if (this.#waiting.length >= maxWaitingMessages || this.#waitingBytes + end - start > maxWaitingBytes) {
      this.#drop('queue_full')
      return
    }
    this.#waiting.push(Buffer.from(bytes.subarray(start, end)))
    this.#waitingBytes += end - start
  }

  #deliver(bytes: Buffer, start: number, body: number, end: number): void {
    const packet = this.#packet
    if (packet.read(bytes, start, body, end, this.#connect.version) !== 0)
      throw new Error('the broker has written a PUBLISH that is none')
    const inside = bytes.toString('utf8', packet.topicStart, packet.topicEnd)
    const seen = this.#see(inside, packet.qos)
    const { packetId, expirySeconds, qos } = packet
    const written =
      seen === undefined
        ? undefined
        : this.#packetOf(seen, {
            packetId,
            flags: (bytes[start] as number) & (seen.qos === 0 ? 1 : 9), // DUP and RETAIN
            expirySeconds,
            properties: carriedProperties(packet, bytes),
            payload: bytes.subarray(packet.payloadStart, packet.end),
          })
    if (written === undefined || seen === undefined) {
      this.#drop(seen === undefined ? 'not_allowed' : 'too_large')
      if (qos > 0) this.#complete(packetId) // as if it had been sent [MQTT-3.1.2-25]
      return
    }
    if (qos > 0 && seen.qos === 0) this.#complete(packetId)
    if (seen.qos > 0) this.#inFlight.add(packetId)
    this.#write(written)
  }

  /** @returns undefined when it is nothing for this client, whatever the broker says */
  #see(inside: string, qos: number): Seen | undefined {
    const { open } = this.#front
    if (!maySee(inside, this.#principal, open)) return undefined
    let first: GrantedFilter | undefined
    let granted = 0
    const ids: number[] = []
    for (const filter of this.#client.filters.values()) {
      if (!inside.startsWith(filter.hidden) || !covers(filter.inside, inside)) continue
      first ??= filter
      granted = Math.max(granted, filter.qos)
      if (filter.id !== undefined) ids.push(filter.id)
    }
    if (first === undefined) return undefined // unsubscribed from meanwhile
    const topic = first.shown + inside.slice(first.hidden.length)
    return open?.denies(topic) === true ? undefined : { topic, qos: Math.min(qos, granted), ids }
  }

  /** @returns undefined when it is larger than the client takes */
  #packetOf(seen: Seen, { packetId, flags, expirySeconds, properties, payload }: Parts): Buffer | undefined {
    const { version, maxPacketBytes } = this.#connect
    const known = this.#aliases.get(seen.topic)
    const alias = known ?? this.#newAlias()
    const topic = Buffer.from(known === undefined ? seen.topic : '')
    const head: Buffer[] = [Buffer.from([topic.length >> 8, topic.length & 0xff]), topic]
    if (seen.qos > 0) head.push(Buffer.from([packetId >> 8, packetId & 0xff]))
    if (version === 5) {
      const block = propertyBlock(expirySeconds, alias, seen.ids, properties)
      head.push(Buffer.from(variableByteInteger(block.length)), block)
    }
    const remaining = head.reduce((sum, part) => sum + part.length, payload.length)
    const first = Buffer.from([(packetType.publish << 4) | flags | (seen.qos << 1), ...variableByteInteger(remaining)])
    if (first.length + remaining > maxPacketBytes) return undefined
    if (known === undefined && alias !== undefined) this.#aliases.set(seen.topic, alias)
    return Buffer.concat([first, ...head, payload])
  }

  #newAlias(): number | undefined {
    const { topicAliasMaximum } = this.#connect
    const next = this.#aliases.size + 1
    return next <= Math.min(topicAliasMaximum, maxTopicAliases) ? next : undefined
  }

  /** The broker need not wait for an acknowledgement; a PUBACK does for both levels, since it looks at nothing but the id. */
  #complete(packetId: number): void {
    this.#front.cluster?.sessions.acknowledged(this.#client, packetId)
    this.#host.toBroker(Buffer.from([packetType.puback << 4, 2, packetId >> 8, packetId & 0xff]))
  }

  #write(packet: Buffer): void {
    this.#stats.publishesSent++
    this.#host.write(packet)
  }

  #drop(reason: DeliveryDropReason): void {
    this.#stats.publishesDropped++
    this.#front.counters.deliveriesDropped.inc({ reason })
  }
}

interface Parts {
  readonly packetId: number
  readonly flags: number
  readonly expirySeconds: number
  readonly properties: Buffer | undefined
  readonly payload: Buffer
}

/** Properties of a PUBLISH to a client (MQTT 5.0 §3.3.2.3). */
function propertyBlock(
  expirySeconds: number,
  alias: number | undefined,
  ids: readonly number[],
  properties: Buffer | undefined,
): Buffer {
  const bytes: number[] = []
  if (expirySeconds > 0)
    bytes.push(
      property.messageExpiryInterval,
      expirySeconds >>> 24,
      (expirySeconds >>> 16) & 0xff,
      (expirySeconds >>> 8) & 0xff,
      expirySeconds & 0xff,
    )
  if (alias !== undefined) bytes.push(property.topicAlias, alias >> 8, alias & 0xff)
  for (const id of ids) bytes.push(property.subscriptionIdentifier, ...variableByteInteger(id))
  const own = Buffer.from(bytes)
  return properties === undefined ? own : Buffer.concat([own, properties])
}

/** Where the variable header of a packet begins that is the whole buffer. */
function bodyOf(packet: Buffer): number {
  let at = 1
  while ((packet[at] as number) >= 0x80) at++
  return at + 1
}
