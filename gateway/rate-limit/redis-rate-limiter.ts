import { randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
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
import { Leases } from './leases.ts'
import type { LimitPolicy } from './limit-policy.ts'
import type { Cost, LimitLevel, RateLimiter, Wait } from './rate-limiter.ts'
import { readScript, runScript } from './redis-script.ts'
import { TokenBuckets } from './token-buckets.ts'

const leaseScript = readScript(new URL('./lease.lua', import.meta.url))
const announceScript = readScript(new URL('./announce.lua', import.meta.url))
const gatewaysKey = 'fleetbridge:limit:gateways'

const heartbeatMs = 2000
/** A gateway that missed three heartbeats no longer has a share. */
const aliveMs = 7000
const firstRetryMs = 250
const lastRetryMs = 2000
/** After a return that held less than this, the next return is put off, longer each time. */
const calmMs = 10_000
const lastPutOffMs = 10_000
/** How long a close waits for Redis to take back what is in hand. */
const goodbyeMs = 200
/** How long a start waits for Redis before it goes on without. */
const startMs = 1000

/**
 * Limits that all gateways share, counted by one Redis or the primary of a replicated one, and spent from leases. Not for Redis Cluster:
 * the keys of a call lie in many slots. While Redis does not answer, each gateway admits its local share: rate and burst divided by
 * the gateways that were last seen there.
 * @param options.answerMs longest wait for an answer; past it Redis counts as away
 * @throws BridgeError BRIDGE_CONFIG_INVALID for what is no Redis URL; a Redis that is away does not fail the start
 */
export async function startRedisRateLimiter(
  policy: LimitPolicy,
  redisUrl: string,
  { log, metrics, answerMs = 50 }: { log: Log; metrics: Metrics; answerMs?: number },
): Promise<RateLimiter> {
  const limiter = new RedisRateLimiter(policy, createRedis(redisUrl), { log, metrics, answerMs })
  await limiter.start()
  return limiter
}

class RedisRateLimiter implements RateLimiter {
  readonly kind = 'redis'
  readonly #redis: Redis
  readonly #log: Log
  readonly #answerMs: number
  readonly #fallbacks: ReturnType<typeof registerFallbacks>
  readonly #local: TokenBuckets
  readonly #leases: Leases
  readonly #handle: Handle
  readonly #id = randomUUID()
  #gateways = 1
  /** Why the local share answers; undefined while Redis does. */
  #away: AwayReason | 'starting' | undefined = 'starting'
  #started: () => void = () => undefined
  #timer: NodeJS.Timeout | undefined
  #retryMs = firstRetryMs
  #putOffMs = 0
  #sharedSinceMs = Number.NEGATIVE_INFINITY
  #lastError = 'no connection'
  #closing = false

  constructor(
    policy: LimitPolicy,
    redis: Redis,
    { log, metrics, answerMs }: { log: Log; metrics: Metrics; answerMs: number },
  ) {
    this.#redis = redis
    this.#log = log
    this.#answerMs = answerMs
    this.#local = new TokenBuckets(policy)
    this.#fallbacks = registerFallbacks(metrics)
    metrics.gauge(
      'fleetbridge_rate_limiter_local',
      '1 while limits are counted from the local share, 0 while in Redis',
      () => (this.#away === undefined ? 0 : 1),
    )
    metrics.gauge(
      'fleetbridge_rate_limiter_gateways',
      'Gateways last seen in Redis: the local share is 1 / this',
      () => this.#gateways,
    )
    this.#leases = new Leases(policy, {
      ask: (keys, argument) =>
        within(answerMs, runScript(redis, leaseScript, keys, [argument])) as Promise<readonly number[]>,
      fallBack: (error, costs) => {
        if (error !== undefined) this.#failed(error)
        return this.#takeLocally(costs)
      },
      failed: (error) => this.#failed(error),
      gateways: () => this.#gateways,
    })
    this.#handle = handleOf(() => this.#end())
  }

  async start(): Promise<void> {
    const started = new Promise<void>((resolve) => (this.#started = resolve))
    this.#redis.on('error', (error: NodeJS.ErrnoException) => (this.#lastError = error.message || `${error.code}`))
    this.#redis.on('ready', () => {
      this.#lastError = 'the connection was closed'
      // After an error a new connection is no reason to think better of it: a replica stays read-only.
      this.#probeIn(this.#away === 'error' ? this.#retryMs : this.#putOffMs)
    })
    this.#redis.on('close', () => this.#goLocal('unreachable', this.#lastError))
    this.#redis.connect().catch(() => undefined) // it goes on by itself, and the events tell
    const timer = setTimeout(() => this.#goLocal('timeout', `no connection within ${startMs} ms`), startMs)
    await started
    clearTimeout(timer)
  }

  take(costs: readonly Cost[]): Promise<readonly (Wait | undefined)[]> {
    if (this.#away !== undefined) return Promise.resolve(this.#takeLocally(costs))
    return this.#leases.take(costs, performance.now())
  }

  giveBack(costs: readonly Cost[]): void {
    if (this.#away === undefined) this.#leases.giveBack(costs, performance.now())
    else this.#local.giveBack(costs, performance.now())
  }

  known(tenant: string, device: string | undefined, fleet: string | undefined): readonly LimitLevel[] {
    const source = this.#away === undefined ? this.#leases : this.#local
    return source.known(tenant, device, fleet, performance.now())
  }

  async levels(tenant: string, device: string | undefined, fleet: string | undefined): Promise<readonly LimitLevel[]> {
    if (this.#away !== undefined) return this.known(tenant, device, fleet)
    try {
      return await this.#leases.levels(tenant, device, fleet)
    } catch (error) {
      this.#failed(error)
      return this.known(tenant, device, fleet)
    }
  }

  close(): Promise<void> {
    return this.#handle.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#handle.close()
  }

  #takeLocally(costs: readonly Cost[]): (Wait | undefined)[] {
    const askedBefore = this.#local.asked
    const waits = this.#local.take(costs, performance.now())
    const reason = this.#away === undefined || this.#away === 'starting' ? 'unreachable' : this.#away
    this.#fallbacks.inc({ reason }, this.#local.asked - askedBefore)
    return waits
  }

  #failed(error: unknown): void {
    const reason = awayReasonOf(error)
    // What a command says of a lost connection is about the command; the connection has said why.
    this.#goLocal(reason, reason === 'unreachable' ? this.#lastError : (error as Error).message)
  }

  #goLocal(reason: AwayReason, detail: string): void {
    if (this.#closing || (this.#away !== undefined && this.#away !== 'starting')) return
    const now = performance.now()
    const wasCalm = now - this.#sharedSinceMs > calmMs
    this.#putOffMs = wasCalm ? 0 : Math.min(Math.max(firstRetryMs, this.#putOffMs * 2), lastPutOffMs)
    this.#retryMs = firstRetryMs
    this.#away = reason
    this.#leases.forget()
    this.#local.divideBy(this.#gateways, performance.now())
    // The message alone: the error of a failed login holds the password among its arguments.
    this.#log.warn(
      { redis: addressOf(this.#redis), reason, detail: this.#redacted(detail), gateways: this.#gateways },
      'Redis does not answer: limits are counted from the local share, rate / gateways',
    )
    this.#probeIn(Math.max(firstRetryMs, this.#putOffMs))
    this.#started()
  }

  #goShared(): void {
    if (this.#closing || this.#away === undefined) return
    this.#away = undefined
    this.#leases.start()
    this.#sharedSinceMs = performance.now()
    this.#log.info(
      { redis: addressOf(this.#redis), gateways: this.#gateways },
      'limits are counted in Redis, for all gateways together',
    )
    this.#started()
  }

  /** The heartbeat while Redis answers, and while it does not the one request that asks whether it does again. */
  #probeIn(ms: number): void {
    clearTimeout(this.#timer)
    if (!this.#closing) this.#timer = setTimeout(() => void this.#probe(), ms)
  }

  async #probe(): Promise<void> {
    const { status } = this.#redis
    // Not connected: the connection's own back-off runs, and `ready` asks for the next probe.
    if (status !== 'ready') {
      if (status !== 'end') return
      this.#redis.connect().catch(() => undefined)
      return this.#probeIn(lastRetryMs)
    }
    try {
      // It writes, so a Redis that has become read-only or full does not pass.
      const announced = runScript(this.#redis, announceScript, [gatewaysKey], [this.#id, aliveMs])
      this.#gateways = Math.max(1, (await within(this.#answerMs, announced)) as number)
      this.#goShared()
      this.#probeIn(heartbeatMs)
    } catch (error) {
      this.#failed(error)
      this.#probeIn(this.#retryMs)
      this.#retryMs = Math.min(this.#retryMs * 2, lastRetryMs)
    }
  }

  async #end(): Promise<void> {
    this.#closing = true
    clearTimeout(this.#timer)
    if (this.#away === undefined) await within(goodbyeMs, this.#leases.returnAll()).catch(() => undefined)
    this.#leases.forget()
    await closeRedis(this.#redis, () => this.#redis.zrem(gatewaysKey, this.#id))
  }

  #redacted(text: string): string {
    const { password } = this.#redis.options
    return password ? text.replaceAll(password, '[redacted]') : text
  }
}

function registerFallbacks(metrics: Metrics) {
  return metrics.counter(
    'fleetbridge_rate_limiter_fallback_total',
    'Costs that the local share answered, by why Redis did not',
    ['reason'],
    awayReasons.map((reason) => ({ reason })),
  )
}
