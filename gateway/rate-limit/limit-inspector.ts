import type { AppliedLimit, LimitOverrides } from './limit-overrides.ts'
import type { LimitLevel, RateLimiter } from './rate-limiter.ts'

/** A setting as it holds for a device, with what is left in each of its windows; none where it is `none`. */
export interface ShownLimit extends AppliedLimit {
  readonly levels: Omit<LimitLevel, 'limit'>[]
}

export interface LimitInspector {
  /** @param fleet whether the device has a fleet credential, whose limits are then shown, too */
  show(tenant: string, device: string, fleet: boolean): Promise<readonly ShownLimit[]>
}

/** Says which limits hold for a device, where they were set, and how much of them is left now. */
export function createLimitInspector(overrides: LimitOverrides, rateLimiter: RateLimiter): LimitInspector {
  return {
    async show(tenant, device, fleet) {
      const levels = await rateLimiter.levels(tenant, device, fleet ? device : undefined)
      return overrides
        .applied(tenant, device)
        .filter(({ owner }) => fleet || owner !== 'fleet')
        .map((applied) => ({
          ...applied,
          levels: levels
            .filter(({ limit }) => limit === applied.limit)
            .map(({ burst, seconds, left, resetMs }) => ({ burst, seconds, left, resetMs })),
        }))
    },
  }
}
