import type { Config } from '#platform/config-schema.ts'
import { BridgeError } from '#platform/errors.ts'
import type { Cost, LimitName } from './rate-limiter.ts'

/** `all` is the whole installation. */
export type Owner = 'device' | 'fleet' | 'tenant' | 'all'
export const owners = ['device', 'fleet', 'tenant', 'all'] as const satisfies readonly Owner[]

/** What a window counts; `catchUp` are messages of a backlog, which no other window counts. */
export type Quantity = 'messages' | 'readings' | 'bytes' | 'catchUp'

/** One window of one limit: every owner has a bucket of `burst` tokens that refills in `seconds`. */
export interface Rule {
  readonly limit: LimitName
  readonly owner: Owner
  readonly quantity: Quantity
  readonly burst: number
  readonly seconds: number
}

export const limitsByName = [
  ['device', 'device', 'device', 'messages'],
  ['deviceReadings', 'device_readings', 'device', 'readings'],
  ['deviceBytes', 'device_bytes', 'device', 'bytes'],
  ['fleet', 'fleet', 'fleet', 'messages'],
  ['fleetReadings', 'fleet_readings', 'fleet', 'readings'],
  ['fleetBytes', 'fleet_bytes', 'fleet', 'bytes'],
  ['tenant', 'tenant', 'tenant', 'messages'],
  ['tenantReadings', 'tenant_readings', 'tenant', 'readings'],
  ['tenantBytes', 'tenant_bytes', 'tenant', 'bytes'],
  ['all', 'all', 'all', 'messages'],
  ['allReadings', 'all_readings', 'all', 'readings'],
  ['allBytes', 'all_bytes', 'all', 'bytes'],
  ['catchUpDevice', 'catch_up_device', 'device', 'catchUp'],
  ['catchUpFleet', 'catch_up_fleet', 'fleet', 'catchUp'],
  ['catchUpTenant', 'catch_up_tenant', 'tenant', 'catchUp'],
] as const satisfies readonly (readonly [keyof Config['limits'], LimitName, Owner, Quantity])[]

/** All windows of all limits that are not `none`. */
export function rulesOf(limits: Config['limits']): readonly Rule[] {
  return limitsByName.flatMap(([setting, limit, owner, quantity]) =>
    windowsOf(limits[setting], `limits.${setting}`).map((window) => ({ limit, owner, quantity, ...window })),
  )
}

/** Who of this kind pays; undefined when the cost asks nothing of it. Those of a tenant and of all have an empty name. */
export function payerOf(owner: Owner, cost: Cost): string | undefined {
  if (owner === 'device') return cost.device
  if (cost.deviceOnly === true) return undefined
  return owner === 'fleet' ? cost.fleet : ''
}

/** `N:S,…` as buckets of N tokens that refill in S seconds; none for `none`. @param setting names it in the error */
export function windowsOf(text: string, setting: string): { burst: number; seconds: number }[] {
  if (text === 'none') return []
  return text.split(',').map((part) => {
    const [, tokens, seconds] = /^([1-9]\d{0,8}):([1-9]\d{0,5})$/.exec(part) ?? []
    if (tokens === undefined || seconds === undefined)
      throw new BridgeError(
        'BRIDGE_CONFIG_INVALID',
        `${setting}: "${text}" is neither none nor windows such as 100:1,2000:60`,
      )
    return { burst: Number(tokens), seconds: Number(seconds) }
  })
}

const shared: ReadonlySet<LimitName> = new Set(
  limitsByName.filter(([, , owner]) => owner !== 'device').map(([, limit]) => limit),
)

/** Whether several devices draw on it. */
export function isShared(limit: LimitName): boolean {
  return shared.has(limit)
}
