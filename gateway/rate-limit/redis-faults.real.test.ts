import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { handleOf } from '#platform/handle.ts'
import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import { type RedisServer, startRedis } from '#test/servers/redis.ts'
import { createAccounts } from '../accounts.ts'
import { type Envelope, Lane } from '../envelope.ts'
import type { EventLog } from '../event-log/event-log.ts'
import { createLimitBooks } from '../limit-books.ts'
import { createNormalizer } from '../normalize/create-normalizer.ts'
import { createPipeline, type RunningPipeline } from '../pipeline.ts'
import type { Verdict } from '../verdict.ts'
import { eventually, patient, startLimiter } from './redis-rate-limiter.fixture.ts'

let server: RedisServer
let admin: Redis

beforeAll(async () => {
  server = await startRedis()
  admin = new Redis(server.url, { retryStrategy: () => 50, maxRetriesPerRequest: null })
  admin.on('error', () => undefined) // the server is killed below
})

afterAll(async () => {
  admin.disconnect()
  await server.close()
})

const eventLog: EventLog = {
  ...handleOf(() => Promise.resolve()),
  kind: 'direct',
  ackLevel: 'committed',
  awayMs: () => 0,
  append: () => Promise.resolve(),
}

/** Some 1,000 messages a second of 200 devices for a while. @returns how long each waited for its verdict, sorted */
async function load(pipeline: RunningPipeline, durationMs: number): Promise<number[]> {
  const answers: Promise<void>[] = []
  const waitedMs: number[] = []
  const others: Verdict[] = []
  const lanes = Array.from({ length: 200 }, () => new Lane())
  const endMs = performance.now() + durationMs
  for (let count = 0; performance.now() < endMs; await sleep(5))
    for (const last = count + 5; count < last; count++) {
      const arrivedAtMs = performance.now()
      const device = `pump-${count % 200}`
      const envelope: Omit<Envelope, 'settle'> = {
        ingress: {
          principal: {
            tenant: 'default',
            device,
            fleet: false,
            credentialId: device,
            operator: false,
            expiresAtMs: Number.POSITIVE_INFINITY,
            allows: () => true,
          },
          source: 'mqtt',
          topic: 'devices/me/telemetry',
          contentType: undefined,
          payload: Buffer.from('{"values":{"t":1}}'),
          device: undefined,
          fleetItem: false,
          acknowledgesParked: false,
          ingestTimeUs: Date.now() * 1000,
          arrivedAtMs,
        },
        lane: lanes[count % 200],
        holdUntilMs: arrivedAtMs + 10_000,
      }
      answers.push(
        new Promise((resolve) =>
          pipeline.push({
            ...envelope,
            settle(verdict) {
              waitedMs.push(performance.now() - arrivedAtMs)
              if (verdict.kind !== 'stored') others.push(verdict)
              resolve()
            },
          }),
        ),
      )
    }
  await Promise.all(answers)
  expect(others, 'every message is acknowledged').toEqual([])
  return waitedMs.sort((one, other) => one - other)
}

const p99 = (sorted: readonly number[]) => (sorted[Math.floor(sorted.length * 0.99)] ?? 0).toFixed(1)

const faults: Record<string, { break: () => Promise<unknown>; mend: () => Promise<unknown>; reason?: string }> = {
  killed: { break: () => server.kill('SIGKILL'), mend: () => server.restart(), reason: 'unreachable' },
  frozen: { break: async () => server.pause(), mend: async () => server.resume(), reason: 'timeout' },
  'out of memory': {
    break: async () => {
      await admin.config('SET', 'maxmemory-policy', 'noeviction')
      await admin.config('SET', 'maxmemory', '1')
    },
    mend: () => admin.config('SET', 'maxmemory', '0'),
    reason: 'error',
  },
  flushed: {
    break: async () => {
      await admin.flushall()
      await admin.script('FLUSH')
    },
    mend: () => Promise.resolve(),
  },
}

it.each(Object.keys(faults))('%s under load: acknowledgements go on, and the counters tell', async (name) => {
  const fault = faults[name] as (typeof faults)[string]
  // Where it is not the silence that is tested, a busy machine may not make it look away for another reason.
  const { limiter, fallbacks, isLocal } = await startLimiter(
    { device: '1000:1', tenant: '5000:1' },
    { url: server.url, ...(name !== 'frozen' && patient) },
  )
  const accounts = createAccounts(createMetrics('test'))
  const pipeline = createPipeline({
    rateLimiter: limiter,
    normalizer: createNormalizer({ retentionMs: undefined, authenticator: { admitDevice: () => 'admitted' } }),
    eventLog,
    accounts,
    limitBooks: createLimitBooks({ metrics: createMetrics('test'), log: silentLog }),
    log: silentLog,
  })
  const calm = await load(pipeline, 1500)
  const before = await fallbacks(fault.reason)
  await fault.break()
  let broken: number[]
  try {
    broken = await load(pipeline, 2500)
    if (fault.reason !== undefined) {
      expect(await isLocal(), 'the local share answers').toBe(true)
      expect(await fallbacks(fault.reason)).toBeGreaterThan(before + 100)
    }
  } finally {
    await fault.mend()
  }
  await eventually('limits are shared again', async () => !(await isLocal()))
  const mended = await load(pipeline, 500)
  console.info(`${name}: p99 ${p99(calm)} ms before, ${p99(broken)} ms meanwhile, ${p99(mended)} ms after`)
  expect(accounts.inHand()).toBe(0)
  await pipeline.close()
})
