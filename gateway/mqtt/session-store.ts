import type { BrokerMessage, KeptPacket } from './broker-message.ts'
import { messageOf, packetOf } from './broker-message.ts'
import type { BrokerPublisher } from './broker-publisher.ts'
import type { Kept, OfflineQueues, Persistence } from './offline-queues.ts'
import { covers } from './topic-filter.ts'

/** How a subscription of a session is kept. */
export interface KeptSubscription {
  readonly topic: string
  readonly qos: number
  readonly rh?: number
  readonly rap?: boolean
  readonly nl?: boolean
}

/** What Aedes' types leave out. */
export interface AedesInside {
  readonly id: string
  counter: number
  readonly clients: Record<string, { deliverQoS(packet: object, done: () => void): void } | undefined>
  readonly persistence: Persistence & {
    cleanSubscriptions(client: { id: string }): Promise<unknown>
    addSubscriptions(client: { id: string }, subscriptions: readonly KeptSubscription[]): Promise<unknown>
    subscriptionsByClient(client: { id: string }): Promise<readonly KeptSubscription[]>
    storeRetained(packet: object): Promise<unknown>
  }
  clearSessionExpiry(id: string): void
}

/** A message that waits for a session. */
export interface WaitingMessage {
  /** By which all gateways know it; 0 for one that only this gateway has. */
  readonly number: number
  readonly message: BrokerMessage
  /** Milliseconds since the epoch; 0: it does not expire. */
  readonly expiresAtMs: number
}

interface Begun {
  readonly packet: KeptPacket
  readonly number: number
  readonly from: string | undefined
}

const maxBegun = 1000

/** What Aedes keeps of sessions and retained messages, for who brings them from one gateway to another. */
export class SessionStore {
  readonly #aedes: AedesInside
  readonly #offline: OfflineQueues
  readonly #publisher: BrokerPublisher
  #coming = 0
  /** Messages that were handed on while a session was on its way to here. */
  #begun: Begun[] = []

  constructor(aedes: AedesInside, offline: OfflineQueues, publisher: BrokerPublisher) {
    this.#aedes = aedes
    this.#offline = offline
    this.#publisher = publisher
  }

  /** From now on nothing is missed of what is published for a session that is being read elsewhere. */
  expect(): void {
    this.#coming++
    this.#publisher.onBegin = (packet, number, from) => {
      if (packet.qos > 0 && this.#begun.length < maxBegun) this.#begun.push({ packet, number, from })
    }
  }

  /** The session is here, or will not come. */
  arrived(): void {
    if (--this.#coming > 0) return
    this.#begun = []
    this.#publisher.onBegin = undefined
  }

  subscriptionsOf(id: string): Promise<readonly KeptSubscription[]> {
    return this.#aedes.persistence.subscriptionsByClient({ id })
  }

  /** @param id of a session that somebody else's state takes the place of */
  async replace(id: string, subscriptions: readonly KeptSubscription[]): Promise<void> {
    await this.#aedes.persistence.cleanSubscriptions({ id })
    await this.#offline.empty(id)
    if (subscriptions.length > 0) await this.#aedes.persistence.addSubscriptions({ id }, subscriptions)
  }

  /**
   * Adds what a session does not have yet, in its order, and what was published since.
   * @param upTo the number up to which the messages are complete
   */
  async complete(
    id: string,
    messages: readonly WaitingMessage[],
    upTo: number,
    subscriptions: readonly KeptSubscription[],
  ): Promise<void> {
    for (const waiting of messages) await this.#add(id, waiting)
    for (const { packet, number, from } of this.#begun) {
      const isWanted = subscriptions.some(
        ({ topic, qos, nl }) => qos > 0 && !(nl === true && from === id) && covers(topic, packet.topic),
      )
      if (number <= upTo || !isWanted) continue
      const message = messageOf(packet)
      const expiresAtMs = message.expirySeconds === 0 ? 0 : Date.now() + message.expirySeconds * 1000
      await this.#add(id, { number, message, expiresAtMs })
    }
    this.#offline.knowUpTo(id, upTo)
  }

  numberOf(id: string, packetId: number): number | undefined {
    return this.#offline.numberOf(id, packetId)
  }

  async waitingOf(id: string): Promise<{ waiting: WaitingMessage; setNumber: (number: number) => void }[]> {
    const all: { waiting: WaitingMessage; setNumber: (number: number) => void }[] = []
    for await (const { packet, number = 0 } of this.#offline.kept(id)) {
      const kept = packet as unknown as KeptPacket
      all.push({
        waiting: { number, message: messageOf(kept), expiresAtMs: kept.messageExpiry ?? 0 },
        setNumber: (given) => this.#offline.setNumber(id, packet, given),
      })
    }
    return all
  }

  /** Without telling those who have subscribed; an empty payload removes what the topic has. */
  retain(message: BrokerMessage, expiresAtMs: number): void {
    const packet = packetOf(message)
    if (expiresAtMs > 0) packet.messageExpiry = expiresAtMs
    this.#aedes.persistence.storeRetained(packet).catch(() => undefined)
  }

  async #add(id: string, { number, message, expiresAtMs }: WaitingMessage): Promise<void> {
    const packet = {
      ...packetOf({ ...message, retain: false }),
      brokerId: this.#aedes.id,
      brokerCounter: ++this.#aedes.counter,
      ...(expiresAtMs > 0 && { messageExpiry: expiresAtMs }),
    }
    if (!(await this.#offline.add(id, packet as unknown as Kept, number))) return
    // Of one that is connected the queue was sent already.
    this.#aedes.clients[id]?.deliverQoS(packet, () => undefined)
  }
}
