import { recordKey } from '#schema/kafka-topics.ts'
import { GenerationalMap } from './generational-map.ts'

export interface Tenant {
  readonly id: number
  readonly name: string
  /** By unit (undefined: none), then by name. */
  readonly metrics: MetricIds
}

export interface Device {
  readonly id: number
  readonly tenant: Tenant
}

export type MetricIds = Map<string | undefined, Map<string, number>>

/** Devices that are remembered: the map holds between one and two of these. */
const deviceGeneration = 100_000
/** Only names that are in the table get here, and that holds 10,000 a tenant, so this is for tables that were filled by hand. */
const maxTenants = 10_000

/** The numbers behind names, as committed transactions left them. Shared by all transactions of a store. */
export class NameCache {
  readonly #tenants = new Map<string, Tenant>()
  readonly #devices = new GenerationalMap<string, Device>(deviceGeneration)

  tenant(name: string): Tenant | undefined {
    return this.#tenants.get(name)
  }

  device(tenant: string, device: string): Device | undefined {
    return this.#devices.get(recordKey(tenant, device))
  }

  /** Tenants are made by operators and never deleted while they have devices, so this needs no commit. */
  addTenant(id: number, name: string): Tenant {
    const known = this.#tenants.get(name)
    if (known?.id === id) return known
    if (this.#tenants.size >= maxTenants) this.clear()
    const tenant = { id, name, metrics: new Map() }
    this.#tenants.set(name, tenant)
    return tenant
  }

  addDevice(key: string, device: Device): void {
    this.#devices.set(key, device)
  }

  /** After a sign that the tables were changed under us. */
  clear(): void {
    this.#tenants.clear()
    this.#devices.clear()
  }
}

/** What one transaction learnt, on top of the cache: kept only when it commits, so a rolled-back row leaves no number behind. */
export class LearntNames {
  readonly cache: NameCache
  readonly #below: LearntNames | undefined
  readonly #devices = new Map<string, Device>()
  readonly #metrics = new Map<Tenant, MetricIds>()

  constructor(cache: NameCache, below?: LearntNames) {
    this.cache = cache
    this.#below = below
  }

  device(tenant: string, device: string): Device | undefined {
    return this.cache.device(tenant, device) ?? this.#learntDevice(recordKey(tenant, device))
  }

  metric(tenant: Tenant, name: string, unit: string | undefined): number | undefined {
    return metricIn(tenant.metrics, name, unit) ?? this.#learntMetric(tenant, name, unit)
  }

  learnDevice(tenant: Tenant, device: string, id: number): void {
    this.#devices.set(recordKey(tenant.name, device), { id, tenant })
  }

  learnMetric(tenant: Tenant, name: string, unit: string | undefined, id: number): void {
    let metrics = this.#metrics.get(tenant)
    if (metrics === undefined) {
      metrics = new Map()
      this.#metrics.set(tenant, metrics)
    }
    addMetric(metrics, name, unit, id)
  }

  /** The savepoint was released: what it learnt holds as far as the transaction does. */
  mergeInto(below: LearntNames): void {
    for (const [key, device] of this.#devices) below.#devices.set(key, device)
    for (const [tenant, metrics] of this.#metrics)
      for (const [unit, names] of metrics) for (const [name, id] of names) below.learnMetric(tenant, name, unit, id)
  }

  /** The transaction was committed. */
  keep(): void {
    for (const [key, device] of this.#devices) this.cache.addDevice(key, device)
    for (const [tenant, metrics] of this.#metrics)
      for (const [unit, names] of metrics) for (const [name, id] of names) addMetric(tenant.metrics, name, unit, id)
  }

  #learntDevice(key: string): Device | undefined {
    const here = this.#devices.get(key)
    return here !== undefined || this.#below === undefined ? here : this.#below.#learntDevice(key)
  }

  #learntMetric(tenant: Tenant, name: string, unit: string | undefined): number | undefined {
    const metrics = this.#metrics.get(tenant)
    const here = metrics === undefined ? undefined : metricIn(metrics, name, unit)
    return here !== undefined || this.#below === undefined ? here : this.#below.#learntMetric(tenant, name, unit)
  }
}

function metricIn(metrics: MetricIds, name: string, unit: string | undefined): number | undefined {
  return metrics.get(unit)?.get(name)
}

function addMetric(metrics: MetricIds, name: string, unit: string | undefined, id: number): void {
  let names = metrics.get(unit)
  if (names === undefined) {
    names = new Map()
    metrics.set(unit, names)
  }
  names.set(name, id)
}
