import type { Bucket } from './bucket.ts'
import type { LimitPolicy } from './limit-policy.ts'
import type { Owner, Rule } from './limits.ts'

/** What nobody asks and is full again is forgotten after this long: not at once, or every message of a slow device made it anew. */
const idleMs = 10_000

/** One owner's buckets: one for each window that holds for it. */
export class Owned<Kind extends Bucket> {
  readonly tenant: string
  readonly payer: string
  rules: readonly Rule[]
  buckets: readonly Kind[]
  /** When somebody last asked. */
  askedMs: number
  older: Owned<Kind> | undefined = undefined
  newer: Owned<Kind> | undefined = undefined

  constructor(tenant: string, payer: string, rules: readonly Rule[], buckets: readonly Kind[], nowMs: number) {
    this.tenant = tenant
    this.payer = payer
    this.rules = rules
    this.buckets = buckets
    this.askedMs = nowMs
  }
}

/** Makes the bucket of one window; `of` names its owner. */
export type MakeBucket<Kind extends Bucket> = (rule: Rule, tenant: string, payer: string, nowMs: number) => Kind

/** The buckets of all owners of one kind. Finding them allocates nothing. */
export class OwnerTable<Kind extends Bucket> {
  readonly owner: Owner
  size = 0
  readonly #policy: LimitPolicy
  readonly #make: MakeBucket<Kind>
  readonly #maxOwners: number
  // A map within a map: one key made of both names would be a new string for every cost.
  readonly #byTenant = new Map<string, Map<string, Owned<Kind>>>()
  #oldest: Owned<Kind> | undefined = undefined
  #newest: Owned<Kind> | undefined = undefined
  /** Where the search for what can be forgotten goes on. */
  #hand: Owned<Kind> | undefined = undefined

  constructor(owner: Owner, policy: LimitPolicy, make: MakeBucket<Kind>, maxOwners: number) {
    this.owner = owner
    this.#policy = policy
    this.#make = make
    this.#maxOwners = maxOwners
  }

  /** The owner's buckets; undefined when no window holds for it. */
  of(named: string, payer: string, nowMs: number): readonly Kind[] | undefined {
    const tenant = this.#tenantOf(named)
    const rules = this.#policy.rulesOf(this.owner, tenant, payer)
    if (rules.length === 0) return undefined
    const owned = this.#byTenant.get(tenant)?.get(payer) ?? this.#create(tenant, payer, rules, nowMs)
    if (owned.rules !== rules) this.#change(owned, rules, nowMs)
    owned.askedMs = nowMs
    if (owned !== this.#newest) {
      this.#unlink(owned)
      this.#append(owned)
    }
    return owned.buckets
  }

  /** The same for who only wants to look: it leaves no trace. */
  peek(named: string, payer: string, nowMs: number): readonly Kind[] {
    const tenant = this.#tenantOf(named)
    const rules = this.#policy.rulesOf(this.owner, tenant, payer)
    const owned = this.#byTenant.get(tenant)?.get(payer)
    return rules.map(
      (rule) => owned?.buckets.find((bucket) => isSame(bucket.rule, rule)) ?? this.#make(rule, tenant, payer, nowMs),
    )
  }

  *all(): Generator<Kind> {
    for (let owned = this.#oldest; owned !== undefined; owned = owned.newer) yield* owned.buckets
  }

  clear(): void {
    this.#byTenant.clear()
    this.size = 0
    this.#oldest = this.#newest = this.#hand = undefined
  }

  /** Looks at up to so many of the owners that were asked least recently, and drops those whose buckets are full again. */
  forget(nowMs: number, visits: number): void {
    let owned = this.#hand ?? this.#oldest
    let left = visits
    while (owned !== undefined && left > 0 && nowMs - owned.askedMs > idleMs) {
      const { newer } = owned
      if (areFull(owned.buckets, nowMs)) this.#remove(owned)
      owned = newer
      left--
    }
    this.#hand = left > 0 ? undefined : owned
  }

  /** What all tenants share belongs to none. */
  #tenantOf(named: string): string {
    return this.owner === 'all' ? '' : named
  }

  /** A window that is the same as before goes on as it stands; a new one begins full. */
  #change(owned: Owned<Kind>, rules: readonly Rule[], nowMs: number): void {
    const { tenant, payer, buckets } = owned
    owned.rules = rules
    owned.buckets = rules.map(
      (rule) => buckets.find((bucket) => isSame(bucket.rule, rule)) ?? this.#make(rule, tenant, payer, nowMs),
    )
  }

  #create(tenant: string, payer: string, rules: readonly Rule[], nowMs: number): Owned<Kind> {
    if (this.size >= this.#maxOwners) this.#remove(this.#oldest as Owned<Kind>)
    const buckets = rules.map((rule) => this.#make(rule, tenant, payer, nowMs))
    const owned = new Owned(tenant, payer, rules, buckets, nowMs)
    let ofTenant = this.#byTenant.get(tenant)
    if (ofTenant === undefined) {
      ofTenant = new Map()
      this.#byTenant.set(tenant, ofTenant)
    }
    ofTenant.set(payer, owned)
    this.size++
    this.#append(owned)
    return owned
  }

  #remove(owned: Owned<Kind>): void {
    const ofTenant = this.#byTenant.get(owned.tenant) as Map<string, Owned<Kind>>
    ofTenant.delete(owned.payer)
    if (ofTenant.size === 0) this.#byTenant.delete(owned.tenant)
    this.size--
    this.#unlink(owned)
  }

  #append(owned: Owned<Kind>): void {
    owned.older = this.#newest
    owned.newer = undefined
    if (this.#newest === undefined) this.#oldest = owned
    else this.#newest.newer = owned
    this.#newest = owned
  }

  #unlink(owned: Owned<Kind>): void {
    const { older, newer } = owned
    if (older === undefined) this.#oldest = newer
    else older.newer = newer
    if (newer === undefined) this.#newest = older
    else newer.older = older
    if (this.#hand === owned) this.#hand = newer
  }
}

function areFull(buckets: readonly Bucket[], nowMs: number): boolean {
  for (const bucket of buckets) if (!bucket.isFull(nowMs)) return false
  return true
}

function isSame(one: Rule, other: Rule): boolean {
  return one.limit === other.limit && one.burst === other.burst && one.seconds === other.seconds
}
