import { dollarPrefix, type InsideFilter, sparkplugRoot } from './device-topics.ts'
import { covers } from './topic-filter.ts'

/**
 * What the clients that are connected have subscribed to. Telemetry goes down the path and not through the broker: it is handed there, too, only
 * while somebody's filter covers it, and as long as nobody listens that costs one look at `isAny`.
 */
export class Watchers {
  /** By what their topics begin with inside the broker: a device's own, or a whole tenant's. */
  readonly #groups = new Map<string, Map<string, number>>()
  #watching = 0
  /** Changes with every answer that `covers` may give. */
  epoch = 0

  /** Whether any filter may cover telemetry. */
  get isAny(): boolean {
    return this.#watching > 0
  }

  /** Filters of all clients that are connected. */
  count = 0

  add(filter: InsideFilter): void {
    this.#change(filter, 1)
  }

  remove(filter: InsideFilter): void {
    this.#change(filter, -1)
  }

  /** Whether anybody has subscribed to this topic. */
  covers(insideTopic: string): boolean {
    if (this.#groups.size === 0) return false
    const tenantEnd = insideTopic.indexOf('/') + 1
    if (this.#groupCovers(insideTopic.slice(0, tenantEnd), insideTopic)) return true
    if (!insideTopic.startsWith('devices/', tenantEnd)) return false
    const deviceEnd = insideTopic.indexOf('/', tenantEnd + 'devices/'.length) + 1
    return this.#groupCovers(insideTopic.slice(0, deviceEnd), insideTopic)
  }

  /** Filters of a tenant's clients. */
  countOf(tenant: string): number {
    let count = 0
    for (const [hidden, group] of this.#groups)
      if (hidden.startsWith(`${tenant}/`) || hidden === dollarPrefix(tenant))
        for (const clients of group.values()) count += clients
    return count
  }

  /** Whether anybody of a tenant has subscribed below `$SYS`. */
  coversSys(tenant: string): boolean {
    return this.#groups.has(dollarPrefix(tenant))
  }

  #groupCovers(hidden: string, insideTopic: string): boolean {
    const group = this.#groups.get(hidden)
    if (group === undefined) return false
    for (const filter of group.keys()) if (covers(filter, insideTopic)) return true
    return false
  }

  #change({ hidden, inside, shown }: InsideFilter, by: 1 | -1): void {
    let group = this.#groups.get(hidden)
    if (group === undefined) {
      group = new Map()
      this.#groups.set(hidden, group)
    }
    const count = (group.get(inside) ?? 0) + by
    this.count += by
    if (count > 0) group.set(inside, count)
    else group.delete(inside)
    if (group.size === 0) this.#groups.delete(hidden)
    // Every device that listens to its own errors, and every edge node to its commands, would else make all the others look again.
    const isForTelemetry = shown !== '$' && shown !== sparkplugRoot && inside !== `${hidden}errors`
    if (!isForTelemetry) return
    this.#watching += by
    if (count === (by === 1 ? 1 : 0)) this.epoch++
  }
}
