import { setTimeout as sleep } from 'node:timers/promises'
import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import { costOf, generator, policyOf } from './rate-limiter.contract.ts'
import { startRedisRateLimiter } from './redis-rate-limiter.ts'

/** What one of several gateways is asked to do, as JSON in its first argument. */
export interface FloodOptions {
  readonly url: string
  readonly limits: Parameters<typeof policyOf>[0]
  readonly tenant: string
  readonly devices: number
  readonly seed: number
  readonly durationMs: number
}

/** One cost that passed, and between which times of the wall clock that was decided. */
export interface Admitted {
  readonly device: string
  readonly messages: number
  readonly bytes: number
  readonly fromMs: number
  readonly toMs: number
}

const { url, limits, tenant, devices, seed, durationMs } = JSON.parse(process.argv[2] as string) as FloodOptions
const random = generator(seed)
const limiter = await startRedisRateLimiter(policyOf(limits), url, {
  log: silentLog,
  metrics: createMetrics('test'),
  answerMs: 5000,
})
const admitted: Admitted[] = []
const nowMs = () => performance.timeOrigin + performance.now()
const startMs = nowMs()
// Several takes at a time, as no pipeline does it, bursts, and pauses in which leases go back.
await Promise.all(Array.from({ length: 3 }, flood))
await limiter.close()
process.send?.({ admitted })
process.disconnect()

async function flood(): Promise<void> {
  while (nowMs() < startMs + durationMs) {
    const costs = Array.from({ length: 1 + random(30) }, () =>
      costOf(tenant, `pump-${random(devices)}`, { bytes: random(15) === 0 ? random(3000) : random(100) }),
    )
    const fromMs = nowMs()
    const waits = await limiter.take(costs)
    const toMs = nowMs()
    for (const [index, { device, messages, bytes }] of costs.entries())
      if (waits[index] === undefined) admitted.push({ device: device as string, messages, bytes, fromMs, toMs })
    await sleep(random(60) === 0 ? 2500 : random(25))
  }
}
