import type { Config } from '#platform/config-schema.ts'
import { handleOf } from '#platform/handle.ts'
import { rulesOf } from './limits.ts'
import type { RateLimiter } from './rate-limiter.ts'
import { TokenBuckets } from './token-buckets.ts'

/** Limits that are counted in this process alone: for one gateway. Another start begins with full buckets. */
export function startMemoryRateLimiter(limits: Config['limits']): Promise<RateLimiter> {
  const buckets = new TokenBuckets(rulesOf(limits))
  return Promise.resolve({
    ...handleOf(() => Promise.resolve()),
    kind: 'memory',
    take: (costs) => Promise.resolve(buckets.take(costs, performance.now())),
  })
}
