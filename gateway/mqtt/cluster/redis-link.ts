import { randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import type { Counter } from 'prom-client'
import { type Handle, handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'
import type { Metrics } from '#platform/metrics.ts'
import {
  type AwayReason,
  addressOf,
  awayReasonOf,
  awayReasons,
  closeRedis,
  createRedis,
  within,
} from '#platform/redis-connection.ts'
import { type RedisScript, readScript } from '../../rate-limit/redis-script.ts'
import { eventsChannel, keys } from './keys.ts'

const scriptNames = ['join', 'load', 'save', 'leave', 'publish', 'ack', 'restore', 'touch', 'retain'] as const
export type ScriptName = (typeof scriptNames)[number]

const scripts = Object.fromEntries(
  scriptNames.map((name) => [name, readScript(new URL(`./scripts/${name}.lua`, import.meta.url))]),
) as Record<ScriptName, RedisScript>

export type Argument = string | number | Buffer

export interface LinkHost {
  /** Redis is there again: brings both sides to the same state. The link is shared once it resolves. */
  resync(): Promise<void>
  onDown(): void
  onEvent(channel: string, bytes: Buffer): void
}

export interface RedisLinkOptions {
  readonly log: Log
  readonly metrics: Metrics
  /** Longest wait for an answer; past it Redis counts as away. */
  readonly answerMs?: number
}

const heartbeatMs = 2000
/** A gateway that missed three heartbeats is waited for no more. */
const aliveMs = 7000
const firstRetryMs = 250
const lastRetryMs = 2000
/** How long a start waits for Redis before it goes on without. */
const startMs = 1000
/** Longest wait while both sides are brought together: no device waits for that. */
const resyncMs = 2000

export class AwayError extends Error {}

/**
 * Two connections to one Redis, one for commands and one that listens, which are shared or away together. Nothing waits for a Redis that is
 * away: it is tried again in the background.
 */
export class RedisLink {
  /** Of this process: no two gateways have the same. */
  readonly id = randomUUID()
  readonly answerMs: number
  readonly commands: Redis
  readonly #events: Redis
  readonly #channel: string
  readonly #host: LinkHost
  readonly #log: Log
  readonly #failures: Counter<'reason'>
  readonly #handle: Handle
  #state: 'away' | 'resyncing' | 'shared' = 'away'
  #isClosing = false
  #hasSaid: AwayReason | 'shared' | undefined
  #lastError = 'no connection'
  #retryMs = firstRetryMs
  #retry: NodeJS.Timeout | undefined
  #heartbeat: NodeJS.Timeout | undefined
  #started: () => void = () => undefined

  constructor(redisUrl: string, host: LinkHost, { log, metrics, answerMs = 100 }: RedisLinkOptions) {
    this.#host = host
    this.#log = log
    this.answerMs = answerMs
    this.commands = createRedis(redisUrl)
    this.#events = createRedis(redisUrl)
    this.#channel = eventsChannel(this.commands)
    metrics.gauge(
      'fleetbridge_mqtt_cluster_local',
      '1 while MQTT sessions and messages are not shared with other gateways since Redis is away',
      () => (this.isShared ? 0 : 1),
    )
    this.#failures = metrics.counter(
      'fleetbridge_mqtt_cluster_away_total',
      'How often sharing MQTT sessions and messages has stopped, by why',
      ['reason'],
      awayReasons.map((reason) => ({ reason })),
    )
    this.#handle = handleOf(() => this.#end())
  }

  /** Whether all gateways have the same sessions and messages at the moment. */
  get isShared(): boolean {
    return this.#state === 'shared'
  }

  /** Whether both sides are being brought to the same state. */
  get isResyncing(): boolean {
    return this.#state === 'resyncing'
  }

  /** Resolves when Redis is shared, or after a second without it. */
  async start(): Promise<void> {
    const started = new Promise<void>((resolve) => (this.#started = resolve))
    for (const redis of [this.commands, this.#events]) {
      redis.on('error', (error: NodeJS.ErrnoException) => (this.#lastError = error.message || `${error.code}`))
      redis.on('ready', () => this.#tryIn(0))
      redis.on('close', () => this.#down('unreachable', this.#lastError))
      redis.connect().catch(() => undefined) // it goes on by itself, and the events tell
    }
    this.#events.on('messageBuffer', (channel: Buffer, bytes: Buffer) => this.#onEvent(channel.toString(), bytes))
    const timer = setTimeout(() => this.#down('timeout', `no connection within ${startMs} ms`), startMs)
    await started
    clearTimeout(timer)
  }

  /**
   * @returns what the script returns, with strings as buffers
   * @throws AwayError at once while Redis is away; any failure but that of one script's argument makes it so
   */
  run(name: ScriptName, keyNames: readonly string[], args: readonly Argument[]): Promise<unknown> {
    const { sha, lua } = scripts[name]
    return this.ask(async () => {
      try {
        return await this.commands.callBuffer('EVALSHA', sha, keyNames.length, ...keyNames, ...args)
      } catch (error) {
        if (!(error as Error).message.startsWith('NOSCRIPT')) throw error
        return await this.commands.callBuffer('EVAL', lua, keyNames.length, ...keyNames, ...args)
      }
    })
  }

  async ask<Answer>(question: () => Promise<Answer>): Promise<Answer> {
    if (this.#state === 'away' || this.#isClosing) throw new AwayError('Redis is away')
    try {
      return await within(this.isShared ? this.answerMs : resyncMs, question())
    } catch (error) {
      const reason = awayReasonOf(error)
      this.#down(reason, reason === 'unreachable' ? this.#lastError : (error as Error).message)
      throw error
    }
  }

  /** Listens to one more channel, or no more; what fails is made up for by the next resync. */
  listen(channel: string, on: boolean): void {
    const { status } = this.#events
    if (status !== 'ready') return
    const asked = on ? this.#events.subscribe(channel) : this.#events.unsubscribe(channel)
    asked.catch(() => undefined)
  }

  close(): Promise<void> {
    return this.#handle.close()
  }

  #onEvent(channel: string, bytes: Buffer): void {
    try {
      this.#host.onEvent(channel, bytes)
    } catch (error) {
      this.#log.error({ err: error }, 'a notice of another gateway could not be read')
    }
  }

  #down(reason: AwayReason, detail: string): void {
    if (this.#isClosing) return
    const wasShared = this.#state === 'shared'
    this.#state = 'away'
    clearTimeout(this.#heartbeat)
    if (wasShared) this.#failures.inc({ reason })
    if (wasShared || this.#hasSaid === undefined) {
      this.#hasSaid = reason
      this.#log.warn(
        { redis: addressOf(this.commands), reason, detail: this.#redacted(detail) },
        'Redis does not answer: MQTT sessions, commands and retained messages stay in this gateway until it does',
      )
    }
    if (wasShared) this.#host.onDown()
    this.#started()
    this.#tryIn(this.#retryMs)
  }

  #tryIn(ms: number): void {
    clearTimeout(this.#retry)
    if (!this.#isClosing && this.#state === 'away') this.#retry = setTimeout(() => void this.#try(), ms)
  }

  async #try(): Promise<void> {
    const connections = [this.commands, this.#events]
    // While it is not connected its own back-off runs, and `ready` asks again.
    for (const redis of connections) if (redis.status === 'end') redis.connect().catch(() => undefined)
    if (this.#state !== 'away' || connections.some(({ status }) => status !== 'ready')) return
    this.#state = 'resyncing'
    try {
      await within(resyncMs, this.#events.subscribe(this.#channel))
      await within(resyncMs, Promise.all(Object.values(scripts).map(({ lua }) => this.commands.script('LOAD', lua))))
      await this.ask(() => this.#announce())
      await this.#host.resync()
      if (this.#state !== 'resyncing') return
      this.#state = 'shared'
      this.#retryMs = firstRetryMs
      this.#hasSaid = 'shared'
      this.#log.info({ redis: addressOf(this.commands) }, 'MQTT sessions and messages are shared by way of Redis')
      this.#started()
      this.#beatIn(heartbeatMs)
    } catch (error) {
      this.#retryMs = Math.min(this.#retryMs * 2, lastRetryMs)
      this.#down(awayReasonOf(error), (error as Error).message)
      this.#tryIn(this.#retryMs)
    }
  }

  /** It writes, so a Redis that has become read-only or full does not pass. */
  #announce(): Promise<unknown> {
    return this.commands.set(keys.gateway(this.id), '1', 'PX', aliveMs)
  }

  #beatIn(ms: number): void {
    clearTimeout(this.#heartbeat)
    this.#heartbeat = setTimeout(() => {
      // The listening connection is asked, too: when it is cut off without a reset, only its silence shows.
      this.ask(() => Promise.all([this.#announce(), this.#events.ping()])).then(
        () => this.#beatIn(heartbeatMs),
        () => undefined,
      )
    }, ms)
  }

  async #end(): Promise<void> {
    this.#isClosing = true
    clearTimeout(this.#retry)
    clearTimeout(this.#heartbeat)
    await closeRedis(this.commands, () => this.commands.del(keys.gateway(this.id)))
    await closeRedis(this.#events, async () => undefined)
  }

  #redacted(text: string): string {
    const { password } = this.commands.options
    return password ? text.replaceAll(password, '[redacted]') : text
  }
}
