import { Bucket } from './bucket.ts'
import type { LimitPolicy } from './limit-policy.ts'
import { type Owner, owners, payerOf } from './limits.ts'
import { OwnerTable } from './owner-table.ts'
import type { Cost, LimitLevel, LimitName, Wait } from './rate-limiter.ts'

/** Of each kind; past it the owners that were asked least recently start anew. About 60 MB a kind with one window. */
const defaultMaxOwners = 250_000

/** Token buckets in this process. An admitted cost allocates nothing once its buckets exist. */
export class TokenBuckets {
  /** Costs so far that asked anything of any bucket. */
  asked = 0
  readonly #tables: readonly OwnerTable<Bucket>[]
  #parts = 1
  // What the cost at hand touches, kept between costs so that none needs arrays of its own.
  readonly #touched: Bucket[] = []
  readonly #amounts: number[] = []

  constructor(policy: LimitPolicy, maxOwners = defaultMaxOwners) {
    const make = (rule: Bucket['rule'], _tenant: string, _payer: string, nowMs: number) =>
      new Bucket(rule, nowMs, this.#parts)
    this.#tables = owners.map((owner) => new OwnerTable(owner, policy, make, maxOwners))
  }

  /** Owners of which anything is remembered. */
  get size(): number {
    return this.#tables.reduce((sum, table) => sum + table.size, 0)
  }

  /** Counts with an equal part of every burst and rate. */
  divideBy(parts: number, nowMs: number): void {
    this.#parts = parts
    for (const table of this.#tables) for (const bucket of table.all()) bucket.divideBy(parts, nowMs)
  }

  /** @param nowMs of a clock that never goes back */
  take(costs: readonly Cost[], nowMs: number): (Wait | undefined)[] {
    const waits: (Wait | undefined)[] = []
    for (let index = 0; index < costs.length; index++) waits.push(this.#spend(costs[index] as Cost, nowMs))
    for (const table of this.#tables) table.forget(nowMs, costs.length + 8)
    return waits
  }

  giveBack(costs: readonly Cost[], nowMs: number): void {
    for (const cost of costs) {
      const count = this.#touch(cost, nowMs)
      for (let index = 0; index < count; index++) {
        const bucket = this.#touched[index] as Bucket
        const amount = this.#amounts[index] as number
        bucket.used = Math.max(0, bucket.used - amount)
        bucket.shared(askerOf(cost, bucket.rule.owner), -amount)
      }
    }
  }

  known(tenant: string, device: string | undefined, fleet: string | undefined, nowMs: number): LimitLevel[] {
    const cost = { tenant, device, fleet, messages: 0, readings: 0, bytes: 0 }
    return this.#tables.flatMap((table) => {
      const payer = payerOf(table.owner, cost)
      return payer === undefined ? [] : table.peek(tenant, payer, nowMs).map((bucket) => bucket.level(nowMs))
    })
  }

  /** All or none: nothing is taken before every bucket has agreed. */
  #spend(cost: Cost, nowMs: number): Wait | undefined {
    const count = this.#touch(cost, nowMs)
    if (count > 0) this.asked++
    let longestMs = 0
    let limit: LimitName = 'device'
    for (let index = 0; index < count; index++) {
      const bucket = this.#touched[index] as Bucket
      const amount = this.#amounts[index] as number
      const asker = askerOf(cost, bucket.rule.owner)
      const isGreedy = bucket.isGreedy(asker, amount, nowMs, 1)
      let ms = bucket.waitMs(amount, isGreedy)
      if (ms === 0) continue
      ms = bucket.refused(asker, amount, isGreedy, ms, nowMs)
      if (ms <= longestMs) continue
      longestMs = ms
      limit = bucket.rule.limit
    }
    if (longestMs > 0) return { ms: longestMs, limit }
    for (let index = 0; index < count; index++) {
      const bucket = this.#touched[index] as Bucket
      const amount = this.#amounts[index] as number
      bucket.used += amount
      bucket.shared(askerOf(cost, bucket.rule.owner), amount)
    }
    return undefined
  }

  /** Finds the buckets that a cost asks anything of, as they stand now. @returns how many */
  #touch(cost: Cost, nowMs: number): number {
    let count = 0
    for (const table of this.#tables) {
      const payer = payerOf(table.owner, cost)
      const buckets = payer === undefined ? undefined : table.of(cost.tenant, payer, nowMs)
      if (buckets === undefined) continue
      for (const bucket of buckets) {
        const amount = cost[bucket.rule.quantity] ?? 0
        if (amount <= 0) continue
        bucket.refill(nowMs)
        this.#touched[count] = bucket
        this.#amounts[count] = amount
        count++
      }
    }
    return count
  }
}

/** Among whom a limit that many share is shared out; before decoding a fleet's device is not known. */
export function askerOf({ tenant, device, fleet }: Cost, owner: Owner): string {
  const asker = device ?? fleet ?? ''
  return owner === 'all' ? `${tenant}/${asker}` : asker
}
