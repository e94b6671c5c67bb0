import { type Handle, handleOf } from '#platform/handle.ts'
import type { BrokerMessage } from '../broker-message.ts'
import type { Front } from '../front.ts'
import { eventsChannel } from './keys.ts'
import { RedisLink, type RedisLinkOptions } from './redis-link.ts'
import { SharedErrors } from './shared-errors.ts'
import { SharedMessages } from './shared-messages.ts'
import { SharedRetained } from './shared-retained.ts'
import { SharedSessions, type Takeover } from './shared-sessions.ts'
import type { WireMessage } from './wire-message.ts'

export interface ClusterOptions extends RedisLinkOptions {
  readonly redisUrl: string
}

const eventKind = { message: 0x6d, takeover: 0x74, released: 0x72, kept: 0x6b, removed: 0x78 } as const

/**
 * What several gateways with one Redis share, so that they are one broker for all that is no telemetry: who has a client id, sessions, messages
 * from client to client, retained messages, notices of errors. Telemetry never comes here. While Redis is away each gateway goes on by itself.
 */
export class Cluster implements Handle {
  readonly sessions: SharedSessions
  readonly errors: SharedErrors
  readonly #front: Front
  readonly #link: RedisLink
  readonly #messages: SharedMessages
  readonly #retained: SharedRetained
  readonly #channel: string
  readonly #handle: Handle

  constructor(front: Front, { redisUrl, ...options }: ClusterOptions) {
    this.#front = front
    const link = new RedisLink(
      redisUrl,
      {
        resync: () => this.#resync(),
        onDown: () => this.#messages.onDown(),
        onEvent: (channel, bytes) => this.#onEvent(channel, bytes),
      },
      options,
    )
    this.#link = link
    this.#channel = eventsChannel(link.commands)
    this.#messages = new SharedMessages({
      link,
      deliver: (wire, encoded, done, number) => this.#deliver(wire, encoded, done, number),
      onDropped: (sessions) => front.counters.deliveriesDropped.inc({ reason: 'session_full' }, sessions),
    })
    this.#retained = new SharedRetained(link, {
      keep: (wire) => this.#keep(wire),
      remove: (insideTopic) => {
        front.retained.took(insideTopic, Buffer.alloc(0), '', 0)
        const message = { insideTopic, payload: Buffer.alloc(0), qos: 0, retain: true, expirySeconds: 0 } as const
        front.broker.sessions.retain({ ...message, properties: undefined }, 0)
      },
    })
    front.retained.onExpired = (insideTopic) => this.#retained.expire(insideTopic)
    this.sessions = new SharedSessions(link, front)
    this.errors = new SharedErrors(link, front.watchers)
    this.#handle = handleOf(async () => {
      this.sessions.close()
      this.#messages.close()
      await link.close()
    })
  }

  /** Resolves when everything is shared, or after a second without Redis. */
  start(): Promise<void> {
    return this.#link.start()
  }

  /** See SharedMessages. */
  send(message: BrokerMessage, from: string, owner: string, done: (error?: Error) => void): void {
    this.#messages.send(message, from, owner, done)
  }

  close(): Promise<void> {
    return this.#handle.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#handle.close()
  }

  #deliver(wire: WireMessage, encoded: Buffer, done: (error?: Error) => void, number: number | undefined): void {
    const { message, from, owner } = wire
    if (message.retain) {
      this.#front.retained.took(message.insideTopic, message.payload, owner, message.expirySeconds)
      this.#retained.note(wire, encoded, number)
    }
    this.#front.broker.send(message, from, done, number)
  }

  #keep({ message, owner, expiresAtMs }: WireMessage): void {
    this.#front.retained.took(message.insideTopic, message.payload, owner, message.expirySeconds)
    this.#front.broker.sessions.retain(message, expiresAtMs)
  }

  #onEvent(channel: string, bytes: Buffer): void {
    if (channel !== this.#channel) {
      this.errors.onEvent(bytes, (topic, payload) => this.#front.broker.publish(topic, payload))
      return
    }
    const body = bytes.subarray(1)
    if (bytes[0] === eventKind.message) this.#messages.onEvent(body)
    else if (bytes[0] === eventKind.kept) this.#retained.onKept(body)
    else if (bytes[0] === eventKind.removed) this.#retained.onRemoved(body)
    else if (bytes[0] === eventKind.takeover) this.sessions.onTakeover(JSON.parse(body.toString()) as Takeover)
    else if (bytes[0] === eventKind.released)
      this.sessions.onReleased(JSON.parse(body.toString()) as { id: string; epoch: string })
  }

  async #resync(): Promise<void> {
    this.errors.resync()
    await this.#retained.resync()
    // Last: once all clients are known there, nothing may come between.
    await this.sessions.resync()
  }
}
