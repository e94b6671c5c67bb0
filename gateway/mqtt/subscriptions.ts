import type { ISubscription } from 'mqtt-packet'
import type { Principal } from '../auth/principal.ts'
import type { Client } from './client.ts'
import { readControlPacket, writeControlPacket } from './control-packet.ts'
import { type FilterRefusal, insideFilter } from './device-topics.ts'
import { variableByteInteger } from './frame.ts'
import type { Front } from './front.ts'
import type { GrantedFilter } from './granted-filter.ts'
import { type ProtocolVersion, packetType, reasonCode } from './packet-types.ts'

/** SUBSCRIBEs that the broker has not answered. */
const maxWaiting = 100

/** What a packet becomes: one for the broker, or the answer itself. */
export interface Passed {
  readonly broker?: Buffer
  readonly client?: Buffer
}

/** A SUBSCRIBE on its way: the codes of what was refused, and which of the broker's codes belongs to each of the others. */
interface Waiting {
  readonly codes: number[]
  /** Index into `codes` for each filter that the broker was asked for. */
  readonly asked: readonly number[][]
  readonly filters: readonly GrantedFilter[]
}

/** What the broker's SUBACK becomes. */
export interface Subscribed {
  readonly suback: Buffer
  /** Filters that were granted by it. */
  readonly filters: readonly GrantedFilter[]
}

/**
 * The subscriptions of one connection: turns filters as the client writes them into those inside the broker. A refused filter gets its code in
 * the SUBACK, and the connection stays.
 */
export class Subscriptions {
  readonly #front: Front
  readonly #client: Client
  readonly #principal: Principal
  readonly #version: ProtocolVersion
  readonly #waiting = new Map<number, Waiting>()
  /** Filters of this connection that the watchers know of. */
  readonly #watched = new Map<string, GrantedFilter>()

  /** @param client with the filters of the session that it goes on with */
  constructor(front: Front, client: Client, principal: Principal, version: ProtocolVersion) {
    this.#front = front
    this.#client = client
    this.#principal = principal
    this.#version = version
    for (const filter of client.filters.values()) this.#watch(filter)
  }

  /**
   * @returns what the broker and the client get, or a reason code for a packet that ends the connection
   */
  subscribe(bytes: Buffer): Passed | number {
    const packet = readControlPacket(bytes, this.#version)
    if (packet?.cmd !== 'subscribe') return reasonCode.malformed
    const { messageId, subscriptions, properties } = packet
    if (messageId === undefined || messageId === 0 || subscriptions.length === 0) return reasonCode.protocolError
    if (this.#waiting.size >= maxWaiting || this.#waiting.has(messageId)) return reasonCode.protocolError
    const id = properties?.subscriptionIdentifier
    if (id !== undefined && (typeof id !== 'number' || id === 0)) return reasonCode.protocolError // [§3.8.2.1.2]
    const codes: number[] = []
    const asked = new Map<string, { subscription: ISubscription; at: number[]; filter: GrantedFilter }>()
    for (const subscription of subscriptions) {
      const filter = this.#filterOf(subscription, id)
      if (typeof filter === 'number') {
        codes.push(filter)
        continue
      }
      const { inside } = filter
      this.#client.filters.set(inside, filter)
      // Two names for the same filter are one inside, where Aedes would answer them with one code, too.
      const at = asked.get(inside)?.at ?? []
      at.push(codes.length)
      asked.set(inside, { subscription: { ...subscription, topic: inside }, at, filter })
      codes.push(0)
    }
    if (asked.size === 0) return { client: this.#suback(messageId, codes) }
    const all = [...asked.values()]
    const filters = all.map(({ filter }) => filter)
    for (const filter of filters) this.#watch(filter)
    this.#waiting.set(messageId, { codes, asked: all.map(({ at }) => at), filters })
    // Without the identifier: the broker tells one of several, and deliveries know all.
    const broker = writeControlPacket(
      { cmd: 'subscribe', messageId, subscriptions: all.map(({ subscription }) => subscription) },
      this.#version,
    )
    return broker === undefined ? reasonCode.malformed : { broker }
  }

  unsubscribe(bytes: Buffer): Passed | number {
    const packet = readControlPacket(bytes, this.#version)
    if (packet?.cmd !== 'unsubscribe') return reasonCode.malformed
    const { messageId, unsubscriptions } = packet
    if (messageId === undefined || messageId === 0 || unsubscriptions.length === 0) return reasonCode.protocolError
    const { config, open } = this.#front
    const names = unsubscriptions.map((name) => {
      const filter = insideFilter(name, this.#principal, config, open)
      // A filter that was never granted is none that the broker knows.
      if (typeof filter === 'string') return `${this.#principal.tenant}/none`
      this.#client.filters.delete(filter.inside)
      this.#unwatch(filter.inside)
      return filter.inside
    })
    const broker = writeControlPacket({ cmd: 'unsubscribe', messageId, unsubscriptions: names }, this.#version)
    return broker === undefined ? reasonCode.malformed : { broker }
  }

  /** @param bytes the broker's SUBACK; the client's answers every filter that it asked for */
  onSuback(bytes: Buffer, body: number): Subscribed {
    const messageId = bytes.readUInt16BE(body)
    const waiting = this.#waiting.get(messageId)
    if (waiting === undefined) return { suback: bytes, filters: [] }
    this.#waiting.delete(messageId)
    const { codes, asked, filters } = waiting
    const granted = bytes.subarray(bytes.length - asked.length)
    asked.forEach((places, index) => {
      for (const place of places) codes[place] = granted[index] as number
    })
    return { suback: this.#suback(messageId, codes), filters }
  }

  close(): void {
    for (const inside of [...this.#watched.keys()]) this.#unwatch(inside)
  }

  /** @returns the code of its refusal when it is refused */
  #filterOf({ topic, qos }: ISubscription, id: number | undefined): GrantedFilter | number {
    const { config, open } = this.#front
    const filter = insideFilter(topic, this.#principal, config, open)
    if (typeof filter === 'string') return this.#refusal(filter)
    const { filters } = this.#client
    if (!filters.has(filter.inside) && filters.size >= config.maxFilters)
      return this.#version === 5 ? reasonCode.quotaExceeded : failure
    return { ...filter, qos, id }
  }

  #watch(filter: GrantedFilter): void {
    this.#unwatch(filter.inside)
    this.#watched.set(filter.inside, filter)
    this.#front.watchers.add(filter)
  }

  #unwatch(inside: string): void {
    const filter = this.#watched.get(inside)
    if (filter === undefined) return
    this.#watched.delete(inside)
    this.#front.watchers.remove(filter)
  }

  #refusal(refusal: FilterRefusal): number {
    if (this.#version < 5) return failure
    switch (refusal) {
      case 'shared':
        return reasonCode.sharedSubscriptionsNotSupported
      case 'invalid':
        return reasonCode.topicFilterInvalid
      case 'denied':
        return failure
      case 'not_allowed':
        return reasonCode.notAuthorized
    }
  }

  #suback(messageId: number, codes: readonly number[]): Buffer {
    const head = [messageId >> 8, messageId & 0xff, ...(this.#version === 5 ? [0] : [])]
    const size = variableByteInteger(head.length + codes.length)
    return Buffer.concat([Buffer.from([packetType.suback << 4, ...size, ...head]), Buffer.from(codes)])
  }
}

/** The one failure code of a 3.1.1 SUBACK, and "unspecified" in MQTT 5. */
const failure = 0x80
