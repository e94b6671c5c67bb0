import { idleMs, Lease } from './lease.ts'
import { LeaseCall } from './lease-call.ts'
import type { LimitPolicy } from './limit-policy.ts'
import { owners, payerOf } from './limits.ts'
import { OwnerTable } from './owner-table.ts'
import type { Cost, LimitLevel, LimitName, Wait } from './rate-limiter.ts'
import { askerOf } from './token-buckets.ts'

/** How soon leases that run low are topped up, and unspent tokens go back. */
const tendMs = 5
const sweepMs = 1000
/** Of each kind; past it the owners that were asked least recently are forgotten, but not by Redis. */
const maxOwners = 250_000

export interface LeasesOptions {
  /** Runs lease.lua: rejects when Redis does not answer in time, or with an error. */
  readonly ask: (keys: readonly string[], argument: string) => Promise<readonly number[]>
  /** Answers for costs that Redis did not. */
  readonly fallBack: (error: unknown, costs: readonly Cost[]) => readonly (Wait | undefined)[]
  /** Told of a call that nobody waited for. */
  readonly failed: (error: unknown) => void
  /** How many gateways share the limits. */
  readonly gateways: () => number
}

/**
 * Spends from leases: tokens that Redis granted in advance. A take that they cover, or that is refused by what was heard last, asks
 * nobody. What is missing is asked for in one call for all buckets; what runs low is topped up in the background.
 */
export class Leases {
  readonly #tables: readonly OwnerTable<Lease>[]
  readonly #options: LeasesOptions
  readonly #holding = new Set<Lease>()
  /** Leases to top up, or with tokens to send back. */
  readonly #tended = new Set<Lease>()
  #tendTimer: NodeJS.Timeout | undefined
  #sweepTimer: NodeJS.Timeout | undefined
  #lastCall = 0
  /** Goes up when all is forgotten; what was asked before then means nothing any more. */
  #epoch = 0
  // What the cost at hand touches, kept between costs so that none needs arrays of its own.
  readonly #touched: Lease[] = []
  readonly #amounts: number[] = []
  readonly #greedy: boolean[] = []

  constructor(policy: LimitPolicy, options: LeasesOptions) {
    this.#options = options
    const make = (rule: Lease['rule'], tenant: string, payer: string, nowMs: number) =>
      new Lease(rule, tenant, payer, nowMs)
    this.#tables = owners.map((owner) => new OwnerTable(owner, policy, make, maxOwners))
  }

  /** @returns a promise that is settled already when nobody had to be asked */
  take(costs: readonly Cost[], nowMs: number): Promise<readonly (Wait | undefined)[]> {
    const waits = new Array<Wait | undefined>(costs.length).fill(undefined)
    const call = ++this.#lastCall
    const asked: number[] = []
    const lacking: Lease[] = []
    const promised: { lease: Lease; asker: string; amount: number }[] = []
    for (let index = 0; index < costs.length; index++) {
      const cost = costs[index] as Cost
      const count = this.#touch(cost, nowMs)
      const state = this.#judge(cost, count, call, nowMs)
      if (state === 'spent') continue
      if (state !== 'ask') {
        waits[index] = state
        continue
      }
      asked.push(index)
      for (let part = 0; part < count; part++) {
        const lease = this.#touched[part] as Lease
        const amount = this.#amounts[part] as number
        if (lease.call !== call) {
          lease.call = call
          lease.takes++
          lacking.push(lease)
          if (amount > lease.burst) lease.over = amount
        }
        if (amount <= lease.burst) lease[this.#greedy[part] === true ? 'greedy' : 'modest'] += amount
        if (lease.shares === undefined) continue
        const asker = askerOf(cost, lease.rule.owner)
        lease.shares.spent(asker, amount) // so that the asker's next cost of this call is judged by what this one will have spent
        promised.push({ lease, asker, amount })
      }
    }
    for (const table of this.#tables) table.forget(nowMs, costs.length + 8)
    if (asked.length === 0) return Promise.resolve(waits)
    const calls = this.#callsFor(lacking, nowMs)
    for (const { lease, asker, amount } of promised) lease.shares?.spent(asker, -amount)
    return this.#takeRest(costs, waits, asked, lacking, calls)
  }

  giveBack(costs: readonly Cost[], nowMs: number): void {
    for (const cost of costs) {
      const count = this.#touch(cost, nowMs)
      for (let part = 0; part < count; part++) {
        const lease = this.#touched[part] as Lease
        const amount = this.#amounts[part] as number
        lease.hand += amount
        lease.used = Math.max(lease.used, lease.hand)
        lease.shared(askerOf(cost, lease.rule.owner), -amount)
        this.#keep(lease)
      }
    }
  }

  known(tenant: string, device: string | undefined, fleet: string | undefined, nowMs: number): LimitLevel[] {
    return this.#leasesOf(tenant, device, fleet, nowMs).map((lease) => lease.level(nowMs))
  }

  /** @throws what `ask` rejects with */
  async levels(tenant: string, device: string | undefined, fleet: string | undefined): Promise<LimitLevel[]> {
    const leases = this.#leasesOf(tenant, device, fleet, performance.now())
    const call = new LeaseCall()
    for (const lease of leases) call.look(lease)
    if (leases.length === 0) return []
    const reply = await this.#options.ask(call.keys, call.argument)
    const nowMs = performance.now()
    return leases.map((lease, index) => {
      const heard = new Lease(lease.rule, '', '', nowMs)
      heard.hand = lease.hand
      heard.heard(0, reply[2 * index + 1] as number, nowMs)
      return heard.level(nowMs)
    })
  }

  start(): void {
    this.#sweepTimer ??= setInterval(() => this.#sweep(performance.now()), sweepMs)
  }

  /** Redis is away: nothing in hand is spent any more, and nothing that was heard is believed. */
  forget(): void {
    this.#epoch++
    clearInterval(this.#sweepTimer)
    clearTimeout(this.#tendTimer)
    this.#sweepTimer = this.#tendTimer = undefined
    this.#holding.clear()
    this.#tended.clear()
    for (const table of this.#tables) table.clear()
  }

  /** Sends back all that is in hand. @throws what `ask` rejects with */
  async returnAll(): Promise<void> {
    const nowMs = performance.now()
    for (const lease of this.#holding) if (lease.handBack(0)) this.#tended.add(lease)
    const calls = this.#callsFor([...this.#tended], nowMs)
    this.forget()
    for (const call of calls) await this.#options.ask(call.keys, call.argument)
  }

  /** Spends, if all that it touches agree; refuses, if it is known that one will not; or tells that Redis has to be asked. */
  #judge(cost: Cost, count: number, call: number, nowMs: number): 'spent' | 'ask' | Wait {
    let isCovered = true
    let longestMs = 0
    let limit: LimitName = 'device'
    for (let part = 0; part < count; part++) {
      const lease = this.#touched[part] as Lease
      const amount = this.#amounts[part] as number
      const asker = askerOf(cost, lease.rule.owner)
      const isGreedy = lease.isGreedy(asker, amount, nowMs, this.#options.gateways())
      this.#greedy[part] = isGreedy
      if (lease.call === call)
        isCovered = false // an earlier cost of this call is served first
      else if (lease.hand < amount) {
        isCovered = false
        let ms = lease.refusalMs(amount, isGreedy, nowMs)
        if (ms === 0) continue
        ms = lease.refused(asker, amount, isGreedy, ms, nowMs)
        if (ms <= longestMs) continue
        longestMs = ms
        limit = lease.rule.limit
      }
    }
    if (longestMs > 0) return { ms: longestMs, limit }
    if (!isCovered) return 'ask'
    this.#spend(cost, count, nowMs)
    return 'spent'
  }

  #spend(cost: Cost, count: number, nowMs: number): void {
    for (let part = 0; part < count; part++) {
      const lease = this.#touched[part] as Lease
      const amount = this.#amounts[part] as number
      lease.spend(amount, nowMs)
      lease.shared(askerOf(cost, lease.rule.owner), amount)
      if (lease.wanted(lease.hand, nowMs) > 0 && nowMs >= lease.quietUntilMs) this.#tend(lease)
    }
  }

  async #takeRest(
    costs: readonly Cost[],
    waits: (Wait | undefined)[],
    asked: readonly number[],
    lacking: readonly Lease[],
    calls: readonly LeaseCall[],
  ): Promise<readonly (Wait | undefined)[]> {
    const epoch = this.#epoch
    let failure: unknown
    try {
      // One after the other: so many may take longer than one answer should, and those behind a failure need not ask.
      for (const call of calls) await this.#send(call)
    } catch (error) {
      failure = error
    }
    if (failure !== undefined || epoch !== this.#epoch) {
      const answers = this.#options.fallBack(
        failure,
        asked.map((index) => costs[index] as Cost),
      )
      for (const [position, index] of asked.entries()) waits[index] = answers[position]
      return waits
    }
    const nowMs = performance.now()
    for (const index of asked) waits[index] = this.#settle(costs[index] as Cost, nowMs)
    for (const lease of lacking) {
      lease.takes--
      this.#keep(lease)
    }
    return waits
  }

  /** Spends what was granted, all or none. */
  #settle(cost: Cost, nowMs: number): Wait | undefined {
    const count = this.#touch(cost, nowMs)
    let longestMs = 0
    let limit: LimitName = 'device'
    for (let part = 0; part < count; part++) {
      const lease = this.#touched[part] as Lease
      const amount = this.#amounts[part] as number
      const asker = askerOf(cost, lease.rule.owner)
      const isGreedy = lease.isGreedy(asker, amount, nowMs, this.#options.gateways())
      // A greedy one may not spend what was granted to the modest.
      if (lease.hand >= amount && lease.waitMs(amount, isGreedy) === 0) continue
      const ms = lease.refused(asker, amount, isGreedy, Math.max(1, lease.refusalMs(amount, isGreedy, nowMs)), nowMs)
      if (ms <= longestMs) continue
      longestMs = ms
      limit = lease.rule.limit
    }
    if (longestMs > 0) return { ms: longestMs, limit }
    this.#spend(cost, count, nowMs)
    return undefined
  }

  /** Keeps no more of it in hand than a lease. */
  #keep(lease: Lease): void {
    if (lease.takes === 0 && lease.handBack(lease.size)) this.#tend(lease)
    if (lease.hand > 0) this.#holding.add(lease)
  }

  /** Finds the leases that a cost asks anything of, as they stand now. @returns how many */
  #touch(cost: Cost, nowMs: number): number {
    let count = 0
    for (const table of this.#tables) {
      const payer = payerOf(table.owner, cost)
      const leases = payer === undefined ? undefined : table.of(cost.tenant, payer, nowMs)
      if (leases === undefined) continue
      for (const lease of leases) {
        const amount = cost[lease.rule.quantity] ?? 0
        if (amount <= 0) continue
        lease.refill(nowMs)
        this.#touched[count] = lease
        this.#amounts[count] = amount
        count++
      }
    }
    return count
  }

  #leasesOf(tenant: string, device: string | undefined, fleet: string | undefined, nowMs: number): readonly Lease[] {
    const cost = { tenant, device, fleet, messages: 0, readings: 0, bytes: 0 }
    return this.#tables.flatMap((table) => {
      const payer = payerOf(table.owner, cost)
      return payer === undefined ? [] : table.peek(tenant, payer, nowMs)
    })
  }

  /** Calls for these leases, with what else is to be tended in them while there is room. */
  #callsFor(leases: readonly Lease[], nowMs: number): LeaseCall[] {
    const calls: LeaseCall[] = []
    let call = new LeaseCall()
    for (const lease of leases) {
      this.#tended.delete(lease)
      call.add(lease, nowMs)
      if (!call.isFull) continue
      calls.push(call)
      call = new LeaseCall()
    }
    for (const lease of this.#tended) {
      if (call.isFull) break
      this.#tended.delete(lease)
      call.add(lease, nowMs)
    }
    if (call.keys.length > 0) calls.push(call)
    return calls
  }

  async #send(call: LeaseCall): Promise<void> {
    const epoch = this.#epoch
    const reply = await this.#options.ask(call.keys, call.argument)
    if (epoch !== this.#epoch) return
    for (const lease of call.heard(reply, performance.now())) this.#holding.add(lease)
  }

  #tend(lease: Lease): void {
    this.#tended.add(lease)
    this.#tendTimer ??= setTimeout(() => void this.#tendAll(), tendMs)
  }

  async #tendAll(): Promise<void> {
    const calls = this.#callsFor([...this.#tended], performance.now())
    try {
      for (const call of calls) await this.#send(call)
    } catch (error) {
      this.#options.failed(error)
    }
    this.#tendTimer = undefined
    if (this.#tended.size > 0) this.#tendTimer = setTimeout(() => void this.#tendAll(), tendMs)
  }

  /** Sends back what nobody has spent for a while. */
  #sweep(nowMs: number): void {
    for (const lease of this.#holding) {
      if (nowMs - lease.spentMs >= idleMs && lease.handBack(0)) this.#tend(lease)
      if (lease.hand <= 0) this.#holding.delete(lease)
    }
  }
}
