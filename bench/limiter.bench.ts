import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { Redis } from 'ioredis'
import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import { cpuUsOf } from '#platform/process-cpu.ts'
import { startRedis } from '#test/servers/redis.ts'
import { configuredPolicy } from '../gateway/rate-limit/limit-policy.ts'
import { rulesOf } from '../gateway/rate-limit/limits.ts'
import { startMemoryRateLimiter } from '../gateway/rate-limit/memory-rate-limiter.ts'
import { limitsOf } from '../gateway/rate-limit/rate-limiter.contract.ts'
import type { Cost, RateLimiter } from '../gateway/rate-limit/rate-limiter.ts'
import { startRedisRateLimiter } from '../gateway/rate-limit/redis-rate-limiter.ts'

const usage = `node bench/limiter.bench.ts [--seconds 10] [--devices 500]
  What the limiter costs a message: CPU in this process, beyond that of the loop that drives it, and in Redis.
  Device and tenant limit; batches every 2 ms, as the pipeline makes them.`

const { values: flags } = parseArgs({
  options: {
    seconds: { type: 'string', default: '10' },
    devices: { type: 'string', default: '500' },
    help: { type: 'boolean', default: false },
  },
})
if (flags.help) {
  console.info(usage)
  process.exit(0)
}
const durationMs = Number(flags.seconds) * 1000
const devices = Number(flags.devices)
const policy = configuredPolicy(rulesOf(limitsOf({ device: '1000:1', tenant: '100000:1' })))
const costs: readonly Cost[] = Array.from({ length: devices }, (_, index) => ({
  tenant: 'default',
  device: `pump-${index}`,
  fleet: undefined,
  messages: 1,
  readings: 0,
  bytes: 0,
}))

interface Result {
  readonly messages: number
  readonly refused: number
  readonly cpuUs: number
  readonly redisUs: number
  readonly calls: number
}

await using redis = await startRedis()
console.info('limiter           msg/s   CPU µs/message here   in Redis   calls/s   refused')
for (const perSecond of [8000, 500]) {
  // The loop alone, to be taken off the others: without it the figures would be those of timers.
  const empty = await drive(undefined, perSecond)
  const limiters: [string, () => Promise<RateLimiter>][] = [
    ['memory', () => startMemoryRateLimiter(policy)],
    [
      'redis',
      () =>
        startRedisRateLimiter(policy, redis.url, { log: silentLog, metrics: createMetrics('bench'), answerMs: 2000 }),
    ],
  ]
  for (const [name, start] of limiters) {
    await using limiter = await start()
    await drive(limiter, perSecond, 2000) // until its code is compiled
    const { messages, refused, cpuUs, redisUs, calls } = await drive(limiter, perSecond)
    const here = (cpuUs / messages - empty.cpuUs / empty.messages).toFixed(2)
    const there = (redisUs / messages).toFixed(2)
    const callsPerSecond = ((calls * 1000) / durationMs).toFixed(0)
    console.info(
      `${name.padEnd(14)} ${String(perSecond).padStart(8)} ${here.padStart(20)} ${there.padStart(11)} ${callsPerSecond.padStart(9)} ${String(refused).padStart(9)}`,
    )
  }
}

async function drive(limiter: RateLimiter | undefined, perSecond: number, forMs = durationMs): Promise<Result> {
  const startMs = performance.now()
  const cpu = process.cpuUsage()
  const redisUs = cpuUsOf(redis.pid)
  const callsBefore = await callsOf()
  let [messages, refused] = [0, 0]
  for (;;) {
    const elapsedMs = performance.now() - startMs
    if (elapsedMs >= forMs) break
    const due = Math.floor((elapsedMs * perSecond) / 1000)
    const batch: Cost[] = []
    for (; messages < due; messages++) batch.push(costs[messages % devices] as Cost)
    const waits = await limiter?.take(batch)
    if (waits !== undefined) for (const wait of waits) if (wait !== undefined) refused++
    await sleep(2)
  }
  const { user, system } = process.cpuUsage(cpu)
  return {
    messages,
    refused,
    cpuUs: user + system,
    redisUs: cpuUsOf(redis.pid) - redisUs,
    calls: (await callsOf()) - callsBefore,
  }
}

async function callsOf(): Promise<number> {
  const client = new Redis(redis.url)
  const stats = await client.info('commandstats')
  client.disconnect()
  return Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)?.[1] ?? 0)
}
