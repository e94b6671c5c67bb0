import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { expect, onTestFinished } from 'vitest'
import { createMetrics } from '#platform/metrics.ts'
import type { LimitPolicy } from './limit-policy.ts'
import { costOf, type limitsOf, policyOf } from './rate-limiter.contract.ts'
import type { Cost, RateLimiter } from './rate-limiter.ts'
import { startRedisRateLimiter } from './redis-rate-limiter.ts'

/** Where Redis is well, a busy machine may not make it look away. */
export const patient = { answerMs: 5000 }

/** A limiter with what an operator sees of it. */
export async function startLimiter(
  limits: LimitPolicy | Parameters<typeof limitsOf>[0],
  more: { url: string; answerMs?: number },
) {
  const metrics = createMetrics('test')
  const lines: string[] = []
  const log = pino({ level: 'debug' }, { write: (line: string) => lines.push(line) })
  const limiter = await startRedisRateLimiter('rulesOf' in limits ? limits : policyOf(limits), more.url, {
    log,
    metrics,
    ...(more.answerMs !== undefined && { answerMs: more.answerMs }),
  })
  onTestFinished(() => limiter.close())
  const read = async (name: string, reason?: string) => {
    const metric = await metrics.registry.getSingleMetric(name)?.get()
    const values = metric?.values.filter(({ labels }) => reason === undefined || labels.reason === reason) ?? []
    return values.reduce((sum, { value }) => sum + value, 0)
  }
  return {
    limiter,
    lines,
    fallbacks: (reason?: string) => read('fleetbridge_rate_limiter_fallback_total', reason),
    isLocal: async () => (await read('fleetbridge_rate_limiter_local')) === 1,
    gateways: () => read('fleetbridge_rate_limiter_gateways'),
  }
}

export async function eventually(what: string, holds: () => Promise<boolean>, ms = 15_000): Promise<void> {
  const endMs = performance.now() + ms
  while (!(await holds())) {
    if (performance.now() > endMs) throw new Error(`${what} did not come true within ${ms} ms`)
    await sleep(20)
  }
}

export const messages = (tenant: string, count: number): Cost[] =>
  Array.from({ length: count }, () => costOf(tenant, 'pump-1'))

/** Takes, and says how many passed; no call may hang, but for the time in which this process got no turn. */
export async function passed(limiter: RateLimiter, costs: readonly Cost[]): Promise<number> {
  const startedMs = performance.now()
  let [turnMs, pausedMs] = [startedMs, 0]
  const turns = setInterval(() => {
    pausedMs += Math.max(0, performance.now() - turnMs - 10)
    turnMs = performance.now()
  }, 5)
  const waits = await limiter.take(costs)
  const tookMs = performance.now() - startedMs
  clearInterval(turns)
  expect(tookMs - pausedMs, `of ${tookMs} ms`).toBeLessThan(200)
  expect(waits.length).toBe(costs.length)
  return waits.filter((wait) => wait === undefined).length
}
