import type { Rule } from './limits.ts'

/** A full bucket that nobody asks is forgotten after this long: not at once, or every message of a slow device made a new one. */
const idleMs = 10_000
/** Rounding of additions and refills may not cost a wait of a millisecond. */
const tolerance = 1e-9

/** The tokens of one owner. */
export class Bucket {
  readonly tenant: string
  readonly payer: string
  /** Tokens gone since it was full: 0 is full, more than the burst is a debt. */
  used = 0
  /** When `used` was true, and when somebody last asked. */
  atMs: number
  older: Bucket | undefined = undefined
  newer: Bucket | undefined = undefined

  constructor(tenant: string, payer: string, atMs: number) {
    this.tenant = tenant
    this.payer = payer
    this.atMs = atMs
  }
}

/** The buckets of all owners under one rule. They refill as in RFC 2697 §3, up to the burst; finding one allocates nothing. */
export class BucketTable {
  readonly rule: Rule
  size = 0
  #burst: number
  #perMs: number
  readonly #maxBuckets: number
  // A map within a map: one key made of both names would be a new string for every cost.
  readonly #byTenant = new Map<string, Map<string, Bucket>>()
  #oldest: Bucket | undefined = undefined
  #newest: Bucket | undefined = undefined
  /** Where the search for forgettable buckets goes on. */
  #hand: Bucket | undefined = undefined

  constructor(rule: Rule, maxBuckets: number) {
    this.rule = rule
    this.#maxBuckets = maxBuckets
    this.#burst = rule.burst
    this.#perMs = rule.burst / (rule.seconds * 1000)
  }

  /** Counts from now on with an equal part of burst and rate. What was used stays used. */
  divideBy(parts: number): void {
    this.#burst = this.rule.burst / parts
    this.#perMs = this.rule.burst / (this.rule.seconds * 1000) / parts
  }

  /** The owner's bucket as it stands now. */
  bucketOf(tenant: string, payer: string, nowMs: number): Bucket {
    const bucket = this.#byTenant.get(tenant)?.get(payer)
    if (bucket === undefined) return this.#create(tenant, payer, nowMs)
    bucket.used = Math.max(0, bucket.used - (nowMs - bucket.atMs) * this.#perMs)
    bucket.atMs = nowMs
    if (bucket !== this.#newest) {
      this.#unlink(bucket)
      this.#append(bucket)
    }
    return bucket
  }

  /** @returns whole milliseconds until the amount fits, or for more than the burst until the bucket is full; 0 when it fits now */
  waitMs({ used }: Bucket, amount: number): number {
    const over = used + Math.min(amount, this.#burst) - this.#burst * (1 + tolerance)
    return over <= 0 ? 0 : Math.ceil(over / this.#perMs)
  }

  /** Looks at up to so many of the buckets that were asked least recently, and drops those that are full again. */
  forget(nowMs: number, visits: number): void {
    let bucket = this.#hand ?? this.#oldest
    let left = visits
    while (bucket !== undefined && left > 0 && nowMs - bucket.atMs > idleMs) {
      const { newer } = bucket
      if (bucket.used <= (nowMs - bucket.atMs) * this.#perMs) this.#remove(bucket)
      bucket = newer
      left--
    }
    this.#hand = left > 0 ? undefined : bucket
  }

  #create(tenant: string, payer: string, nowMs: number): Bucket {
    if (this.size >= this.#maxBuckets) this.#remove(this.#oldest as Bucket)
    const bucket = new Bucket(tenant, payer, nowMs)
    let ofTenant = this.#byTenant.get(tenant)
    if (ofTenant === undefined) {
      ofTenant = new Map()
      this.#byTenant.set(tenant, ofTenant)
    }
    ofTenant.set(payer, bucket)
    this.size++
    this.#append(bucket)
    return bucket
  }

  #remove(bucket: Bucket): void {
    const ofTenant = this.#byTenant.get(bucket.tenant) as Map<string, Bucket>
    ofTenant.delete(bucket.payer)
    if (ofTenant.size === 0) this.#byTenant.delete(bucket.tenant)
    this.size--
    this.#unlink(bucket)
  }

  #append(bucket: Bucket): void {
    bucket.older = this.#newest
    bucket.newer = undefined
    if (this.#newest === undefined) this.#oldest = bucket
    else this.#newest.newer = bucket
    this.#newest = bucket
  }

  #unlink(bucket: Bucket): void {
    const { older, newer } = bucket
    if (older === undefined) this.#oldest = newer
    else older.newer = newer
    if (newer === undefined) this.#newest = older
    else newer.older = older
    if (this.#hand === bucket) this.#hand = newer
  }
}
