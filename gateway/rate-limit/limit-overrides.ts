import type { Config } from '#platform/config-schema.ts'
import type { LimitPolicy } from './limit-policy.ts'
import { limitsByName, type Owner, type Rule, rulesOf, windowsOf } from './limits.ts'
import type { LimitName } from './rate-limiter.ts'

/** What may be set for a part of the installation. */
const overridable = limitsByName.filter(([, , owner]) => owner !== 'all')

/** A row of `limit_override`. */
export interface LimitOverrideRow {
  readonly tenant: string
  /** It is for all devices of this type, or for this device; both null: for the tenant. */
  readonly deviceType: string | null
  readonly device: string | null
  readonly setting: string
  readonly windows: string
}

export type LimitSetting = (typeof limitsByName)[number][0]

/** Where windows were set, the narrowest first. */
export type LimitSource = 'device' | 'type' | 'tenant' | 'configuration'

/** A setting as it holds for one owner. */
export interface AppliedLimit {
  readonly setting: LimitSetting
  readonly limit: LimitName
  readonly owner: Owner
  /** `100:1,2000:60` or `none`. */
  readonly windows: string
  readonly from: LimitSource
}

/** What was set at one place: windows by setting. */
type Settings = Map<LimitSetting, string>
type Resolved = Map<Owner, readonly Rule[]>

const noSettings: Settings = new Map()

/** What was set for one device; the rest comes from its type, which may change. */
class DeviceOverrides {
  readonly settings: Settings = new Map()
  type: string | undefined = undefined
  rules: Resolved | undefined = undefined
}

class TenantOverrides {
  readonly settings: Settings = new Map()
  readonly types = new Map<string, Settings>()
  readonly devices = new Map<string, DeviceOverrides>()
  /** Of devices without anything of their own, by the type; undefined: of no type that has anything. */
  readonly rulesOfType = new Map<string | undefined, Resolved>()
}

/**
 * The limits of the configuration with those that the registry sets for tenants, device types and devices. The narrowest holds, for each setting
 * on its own. What is asked on the message path was put together before: asking costs look-ups alone.
 */
export class LimitOverrides implements LimitPolicy {
  readonly #limits: Config['limits']
  readonly #configured: Resolved
  #tenants = new Map<string, TenantOverrides>()
  #typeOf: (tenant: string, device: string) => string | undefined = () => undefined
  // Equal windows are the same objects, also after the next change: who counts by them goes on counting. The older map is what was not
  // asked for since the change before, so that the two together stay as small as what is set.
  #rules = new Map<string, readonly Rule[]>()
  #olderRules = new Map<string, readonly Rule[]>()

  constructor(limits: Config['limits']) {
    this.#limits = limits
    this.#configured = this.#resolve([])
  }

  /** Whom to ask for the type of a device. */
  typesFrom(types: { typeOf(tenant: string, device: string): string | undefined }): void {
    this.#typeOf = (tenant, device) => types.typeOf(tenant, device)
  }

  /**
   * Everything that is set now, in place of what was.
   * @returns what a newer version may have written and this one cannot read, `setting=windows`; it is left out
   */
  take(rows: readonly LimitOverrideRow[]): ReadonlySet<string> {
    const unknown = new Set<string>()
    const tenants = new Map<string, TenantOverrides>()
    for (const { tenant, deviceType, device, setting, windows } of rows) {
      if (!isOverridable(setting) || !areWindows(windows)) {
        unknown.add(`${setting}=${windows}`)
        continue
      }
      const ofTenant = found(tenants, tenant, () => new TenantOverrides())
      if (device !== null) found(ofTenant.devices, device, () => new DeviceOverrides()).settings.set(setting, windows)
      else if (deviceType !== null) found(ofTenant.types, deviceType, newSettings).set(setting, windows)
      else ofTenant.settings.set(setting, windows)
    }
    this.#olderRules = this.#rules
    this.#rules = new Map()
    this.#tenants = tenants
    return unknown
  }

  rulesOf(owner: Owner, tenant: string, payer: string): readonly Rule[] {
    const overrides = this.#tenants.get(tenant)
    const rules = overrides === undefined ? this.#configured : this.#resolvedOf(overrides, tenant, payer)
    return rules.get(owner) as readonly Rule[]
  }

  /** What holds for a device and its tenant, and where each was set. */
  applied(tenant: string, device: string): readonly AppliedLimit[] {
    const overrides = this.#tenants.get(tenant)
    const type = this.#typeOf(tenant, device)
    const places: readonly (readonly [LimitSource, Settings])[] = [
      ['device', overrides?.devices.get(device)?.settings ?? noSettings],
      ['type', (type !== undefined && overrides?.types.get(type)) || noSettings],
      ['tenant', overrides?.settings ?? noSettings],
    ]
    return limitsByName.map(([setting, limit, owner]) => {
      const [from, settings] = places.find(([, at]) => at.has(setting)) ?? []
      const windows = settings?.get(setting) ?? this.#limits[setting]
      return { setting, limit, owner, windows, from: from ?? 'configuration' }
    })
  }

  #resolvedOf(overrides: TenantOverrides, tenant: string, payer: string): Resolved {
    const { settings, types, devices, rulesOfType } = overrides
    // A device of a type that has nothing of its own is like one without.
    const named = types.size === 0 || payer === '' ? undefined : this.#typeOf(tenant, payer)
    const type = named !== undefined && types.has(named) ? named : undefined
    const own = devices.get(payer)
    if (own === undefined) {
      let rules = rulesOfType.get(type)
      if (rules === undefined) {
        rules = this.#resolve([settingsOf(types, type), settings])
        rulesOfType.set(type, rules)
      }
      return rules
    }
    if (own.rules === undefined || own.type !== type) {
      own.type = type
      own.rules = this.#resolve([own.settings, settingsOf(types, type), settings])
    }
    return own.rules
  }

  /** @param places the narrowest first */
  #resolve(places: readonly Settings[]): Resolved {
    const resolved = new Map<Owner, readonly Rule[]>()
    for (const [, , owner] of limitsByName) {
      if (resolved.has(owner)) continue
      const set = limitsByName
        .filter(([, , other]) => other === owner)
        .map(([setting]) => {
          const at = places.find((settings) => settings.has(setting))
          return [setting, at?.get(setting) ?? this.#limits[setting]] as const
        })
      const key = set.map(([setting, windows]) => `${setting}=${windows}`).join(' ')
      resolved.set(
        owner,
        this.#kept(key, () => set.flatMap(([setting, windows]) => this.#rulesOfSetting(setting, windows))),
      )
    }
    return resolved
  }

  #rulesOfSetting(setting: LimitSetting, windows: string): readonly Rule[] {
    return this.#kept(`${setting}:${windows}`, () => rulesOf({ ...this.#noLimits(), [setting]: windows }))
  }

  #noLimits(): Config['limits'] {
    const none = Object.fromEntries(limitsByName.map(([setting]) => [setting, 'none']))
    return { ...this.#limits, ...none }
  }

  #kept(key: string, make: () => readonly Rule[]): readonly Rule[] {
    const rules = this.#rules.get(key) ?? this.#olderRules.get(key) ?? Object.freeze(make())
    this.#rules.set(key, rules)
    return rules
  }
}

function isOverridable(name: string): name is LimitSetting {
  return overridable.some(([setting]) => setting === name)
}

export function isSetting(name: string): name is LimitSetting {
  return limitsByName.some(([setting]) => setting === name)
}

function areWindows(text: string): boolean {
  try {
    windowsOf(text, '')
    return true
  } catch {
    return false
  }
}

const newSettings = (): Settings => new Map()

function settingsOf(types: Map<string, Settings>, type: string | undefined): Settings {
  return (type === undefined ? undefined : types.get(type)) ?? noSettings
}

function found<Key, Value>(map: Map<Key, Value>, key: Key, make: () => Value): Value {
  let value = map.get(key)
  if (value === undefined) {
    value = make()
    map.set(key, value)
  }
  return value
}
