import { type Bucket, BucketTable } from './bucket-table.ts'
import { payerOf, type Rule } from './limits.ts'
import type { Cost, LimitName, Wait } from './rate-limiter.ts'

/** Of each rule; past it the buckets that were asked least recently start anew. About 50 MB a rule. */
const defaultMaxBuckets = 250_000

/** Token buckets in this process, for all rules. An admitted cost allocates nothing once its buckets exist. */
export class TokenBuckets {
  /** Costs so far that asked anything of any bucket. */
  asked = 0
  readonly #tables: readonly BucketTable[]
  // What the cost at hand touches, kept between costs so that none needs arrays of its own.
  readonly #touchedBuckets: Bucket[] = []
  readonly #amounts: number[] = []

  constructor(rules: readonly Rule[], maxBuckets = defaultMaxBuckets) {
    this.#tables = rules.map((rule) => new BucketTable(rule, maxBuckets))
  }

  /** Buckets that are held at the moment, over all rules. */
  get size(): number {
    return this.#tables.reduce((sum, table) => sum + table.size, 0)
  }

  /** Counts with an equal part of every burst and rate. */
  divideBy(parts: number): void {
    for (const table of this.#tables) table.divideBy(parts)
  }

  /** @param nowMs of a clock that never goes back */
  take(costs: readonly Cost[], nowMs: number): (Wait | undefined)[] {
    const waits: (Wait | undefined)[] = []
    for (let index = 0; index < costs.length; index++) waits.push(this.#spend(costs[index] as Cost, nowMs))
    for (const table of this.#tables) table.forget(nowMs, costs.length + 8)
    return waits
  }

  /** All or none: nothing is taken before every bucket has agreed. */
  #spend(cost: Cost, nowMs: number): Wait | undefined {
    let touched = 0
    let longestMs = 0
    let limit: LimitName = 'device'
    for (const table of this.#tables) {
      const amount = cost[table.rule.quantity]
      if (amount <= 0) continue
      const payer = payerOf(table.rule, cost)
      if (payer === undefined) continue
      const bucket = table.bucketOf(cost.tenant, payer, nowMs)
      const ms = table.waitMs(bucket, amount)
      if (ms > longestMs) {
        longestMs = ms
        limit = table.rule.limit
      }
      this.#touchedBuckets[touched] = bucket
      this.#amounts[touched] = amount
      touched++
    }
    if (touched > 0) this.asked++
    if (longestMs > 0) return { ms: longestMs, limit }
    for (let index = 0; index < touched; index++)
      (this.#touchedBuckets[index] as Bucket).used += this.#amounts[index] as number
    return undefined
  }
}
