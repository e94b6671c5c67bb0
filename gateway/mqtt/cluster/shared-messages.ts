import type { BrokerMessage } from '../broker-message.ts'
import { maxWaitingBytes, maxWaitingMessages } from '../offline-queues.ts'
import { eventsChannel, groupsOf, keys, prefix, tenantOf } from './keys.ts'
import type { RedisLink } from './redis-link.ts'
import { retainedMs } from './shared-retained.ts'
import { decodeMessage, encodeMessage, readNumbered, type WireMessage } from './wire-message.ts'

/** Hands a message to those who have subscribed at this gateway. @param number absent for one that other gateways did not get */
export type Deliver = (wire: WireMessage, encoded: Buffer, done: (error?: Error) => void, number?: number) => void

export interface SharedMessagesOptions {
  readonly link: RedisLink
  readonly deliver: Deliver
  /** Called for each session of any gateway that had no room for a message. */
  readonly onDropped: (sessions: number) => void
}

/** Past it what comes is handed on at this gateway only. */
const maxPending = 5000

interface Pending {
  readonly wire: WireMessage
  readonly encoded: Buffer
  readonly done: (error?: Error) => void
  readonly sinceMs: number
  isAnswered: boolean
  isDelivered: boolean
  error: Error | undefined
}

/**
 * Messages of clients to others, over all gateways. Each comes back from Redis also to the gateway that it came to, and is delivered then, so
 * that all of them deliver and retain in one order. What does not come back in time is delivered anyway.
 */
export class SharedMessages {
  readonly #link: RedisLink
  readonly #deliver: Deliver
  readonly #onDropped: (sessions: number) => void
  /** In their order. */
  readonly #pending = new Map<number, Pending>()
  #count = 0
  #timer: NodeJS.Timeout | undefined

  constructor({ link, deliver, onDropped }: SharedMessagesOptions) {
    this.#link = link
    this.#deliver = deliver
    this.#onDropped = onDropped
  }

  /**
   * @param from inside id of its sender
   * @param owner inside name of the device that sends it
   * @param done called when it was handed to all who subscribed, connected or not; while Redis is away, to those of this gateway
   */
  send(message: BrokerMessage, from: string, owner: string, done: (error?: Error) => void): void {
    const { insideTopic, payload, qos, retain, expirySeconds } = message
    const expiresAtMs = expirySeconds === 0 ? 0 : Date.now() + expirySeconds * 1000
    const count = ++this.#count
    const wire: WireMessage = { gateway: this.#link.id, count, from, owner, expiresAtMs, message }
    const encoded = encodeMessage(wire)
    if (!this.#link.isShared || this.#pending.size >= maxPending) {
      this.#deliver(wire, encoded, done)
      return
    }
    const sinceMs = performance.now()
    const pending = { wire, encoded, done, sinceMs, isAnswered: false, isDelivered: false, error: undefined }
    this.#pending.set(count, pending)
    this.#timer ??= setInterval(() => this.#tick(), this.#link.answerMs)
    const tenant = tenantOf(insideTopic)
    const listeners = qos === 0 ? [] : groupsOf(insideTopic).map(keys.listeners)
    const kept = !retain ? '' : payload.length === 0 ? 'remove' : 'keep'
    const names = [keys.sequence, keys.retained(tenant), keys.retainedTenants, ...listeners]
    const channel = eventsChannel(this.#link.commands)
    const bounds = [maxWaitingMessages, maxWaitingBytes]
    const args = [encoded, channel, insideTopic, qos, kept, from, ...bounds, prefix, retainedMs, tenant]
    this.#link.run('publish', names, args).then(
      (reply) => {
        const [, dropped] = reply as [Buffer, number]
        if (dropped > 0) this.#onDropped(dropped)
        this.#answered(pending)
      },
      () => {
        // The link is away now, and has said so: what had not come back was delivered.
        this.#deliverNow(pending)
        this.#answered(pending)
      },
    )
  }

  /** What any gateway has published. */
  onEvent(bytes: Buffer): void {
    const numbered = readNumbered(bytes)
    const wire = numbered === undefined ? undefined : decodeMessage(numbered.encoded)
    if (numbered === undefined || wire === undefined) return
    if (wire.gateway !== this.#link.id) {
      this.#deliver(wire, Buffer.from(numbered.encoded), () => undefined, numbered.number)
      return
    }
    const pending = this.#pending.get(wire.count)
    // Absent: it came back late, and was delivered meanwhile.
    if (pending !== undefined) this.#deliverNow(pending, numbered.number)
  }

  /** Redis is away: nothing comes back any more. */
  onDown(): void {
    for (const pending of [...this.#pending.values()]) this.#deliverNow(pending)
  }

  close(): void {
    clearInterval(this.#timer)
  }

  #deliverNow(pending: Pending, number?: number): void {
    if (!this.#pending.delete(pending.wire.count)) return
    this.#deliver(
      pending.wire,
      pending.encoded,
      (error) => {
        pending.error = error ?? undefined
        pending.isDelivered = true
        if (pending.isAnswered) pending.done(pending.error)
      },
      number,
    )
  }

  #answered(pending: Pending): void {
    pending.isAnswered = true
    if (pending.isDelivered) pending.done(pending.error)
  }

  /** Answered, and yet not come back: the connection that listens is not well. */
  #tick(): void {
    const lateMs = performance.now() - 2 * this.#link.answerMs
    for (const pending of this.#pending.values()) {
      if (pending.sinceMs > lateMs) break
      this.#deliverNow(pending)
    }
    if (this.#pending.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}
