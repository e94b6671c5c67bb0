import { readFileSync } from 'node:fs'
import { dollarPrefix } from './device-topics.ts'
import type { GrantedFilter } from './granted-filter.ts'
import { covers } from './topic-filter.ts'
import type { Watchers } from './watchers.ts'

/** Counted since the process began, for one tenant. */
export class TenantStats {
  clients = 0
  maxClients = 0
  packetsReceived = 0
  bytesReceived = 0
  bytesSent = 0
  publishesReceived = 0
  publishesSent = 0
  publishesDropped = 0

  connected(): void {
    this.clients++
    this.maxClients = Math.max(this.maxClients, this.clients)
  }
}

const intervalMs = 10_000
const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string
}

/** What is asked of the rest of the source when the numbers go out. */
export interface SysOptions {
  readonly watchers: Watchers
  publish(insideTopic: string, payload: Buffer): void
  retainedCount(tenant: string): number
}

/**
 * `$SYS/broker/…` with mosquitto's names: what this gateway has seen of one tenant. Published every ten seconds while somebody of the tenant
 * listens, and at once to who subscribes.
 */
export class SysTopics {
  readonly #options: SysOptions
  readonly #stats = new Map<string, TenantStats>()
  readonly #startedMs = performance.now()
  #publishedMs = performance.now()

  constructor(options: SysOptions) {
    this.#options = options
  }

  /** One object for each tenant that was ever connected; tenants are made by administrators alone. */
  statsOf(tenant: string): TenantStats {
    let stats = this.#stats.get(tenant)
    if (stats === undefined) {
      stats = new TenantStats()
      this.#stats.set(tenant, stats)
    }
    return stats
  }

  tick(nowMs: number): void {
    if (nowMs - this.#publishedMs < intervalMs) return
    this.#publishedMs = nowMs
    for (const tenant of this.#stats.keys())
      if (this.#options.watchers.coversSys(tenant))
        for (const [name, value] of this.#values(tenant))
          this.#options.publish(dollarPrefix(tenant) + name.slice(1), Buffer.from(value))
  }

  /** What a client gets that has just subscribed: the topics that its new filters cover, by the names that it knows, each with those filters. */
  *current(tenant: string, filters: readonly GrantedFilter[]): Iterable<[string, Buffer, GrantedFilter[]]> {
    const hidden = dollarPrefix(tenant)
    const own = filters.filter((filter) => filter.hidden === hidden)
    if (own.length === 0) return
    for (const [name, value] of this.#values(tenant)) {
      const covering = own.filter(({ inside }) => covers(inside, hidden + name.slice(1)))
      if (covering.length > 0) yield [name, Buffer.from(value), covering]
    }
  }

  #values(tenant: string): [string, string][] {
    const stats = this.statsOf(tenant)
    const { watchers, retainedCount } = this.#options
    const numbers: [string, number][] = [
      ['clients/connected', stats.clients],
      ['clients/maximum', stats.maxClients],
      ['messages/received', stats.packetsReceived],
      ['bytes/received', stats.bytesReceived],
      ['bytes/sent', stats.bytesSent],
      ['publish/messages/received', stats.publishesReceived],
      ['publish/messages/sent', stats.publishesSent],
      ['publish/messages/dropped', stats.publishesDropped],
      ['subscriptions/count', watchers.countOf(tenant)],
      ['retained messages/count', retainedCount(tenant)],
    ]
    return [
      ['$SYS/broker/version', `fleetbridge ${version}`],
      ['$SYS/broker/uptime', `${Math.floor((performance.now() - this.#startedMs) / 1000)} seconds`],
      ...numbers.map(([name, value]): [string, string] => [`$SYS/broker/${name}`, String(value)]),
    ]
  }
}
