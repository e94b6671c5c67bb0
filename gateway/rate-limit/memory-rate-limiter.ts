import { handleOf } from '#platform/handle.ts'
import type { LimitPolicy } from './limit-policy.ts'
import type { RateLimiter } from './rate-limiter.ts'
import { TokenBuckets } from './token-buckets.ts'

/** Limits that are counted in this process alone: for one gateway. Another start begins with full buckets. */
export function startMemoryRateLimiter(policy: LimitPolicy): Promise<RateLimiter> {
  const buckets = new TokenBuckets(policy)
  return Promise.resolve({
    ...handleOf(() => Promise.resolve()),
    kind: 'memory',
    take: (costs) => Promise.resolve(buckets.take(costs, performance.now())),
    giveBack: (costs) => buckets.giveBack(costs, performance.now()),
    known: (tenant, device, fleet) => buckets.known(tenant, device, fleet, performance.now()),
    levels: (tenant, device, fleet) => Promise.resolve(buckets.known(tenant, device, fleet, performance.now())),
  })
}
