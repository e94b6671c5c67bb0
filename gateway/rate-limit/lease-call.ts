import type { Lease } from './lease.ts'

/** Buckets of one script run, which blocks Redis for some milliseconds. */
export const maxKeys = 1000
/** How long a refusal is remembered: what other gateways give back, or a Redis that was emptied, is seen after this. */
const rememberMs = 1000
/** A bucket that could not give all is left alone for so long, or a flood would ask for every single token. */
const quietMs = 5

/** What lease.lua is asked about one bucket: see there. */
interface Ask {
  readonly lease: Lease
  /** What is needed now; less than that means that somebody has to wait. */
  readonly needed: number
}

/** One run of lease.lua. */
export class LeaseCall {
  readonly keys: string[] = []
  readonly #numbers: number[] = []
  readonly #asks: Ask[] = []

  get argument(): string {
    return JSON.stringify(this.#numbers)
  }

  get isFull(): boolean {
    return this.keys.length >= maxKeys
  }

  /** Adds what a lease needs, wants and returns, and takes that out of it. Nothing when there is nothing to ask. */
  add(lease: Lease, nowMs: number): void {
    const { rule, hand, over, modest, greedy, back, shares } = lease
    lease.over = lease.modest = lease.greedy = lease.back = 0
    const afterModest = Math.max(0, hand - modest)
    const needModest = Math.max(0, modest - hand)
    const needGreedy = Math.max(0, greedy - afterModest)
    const wanted = over > 0 || back > 0 ? 0 : lease.wanted(Math.max(0, hand - modest - greedy), nowMs)
    if (over === 0 && back === 0 && needModest + needGreedy + wanted === 0) return
    this.keys.push(lease.key)
    const reserve = shares?.reserve ?? 0
    this.#numbers.push(rule.burst, rule.seconds, back, hand, over, needModest, needGreedy + wanted, reserve)
    this.#asks.push({ lease, needed: over > 0 ? Math.max(0, over - hand) : needModest + needGreedy })
  }

  /** Only looks how it stands. */
  look(lease: Lease): void {
    this.keys.push(lease.key)
    this.#numbers.push(lease.rule.burst, lease.rule.seconds, 0, 0, 0, 0, 0, 0)
    this.#asks.push({ lease, needed: 0 })
  }

  /** @param reply of lease.lua @returns leases that have tokens in hand now */
  heard(reply: readonly number[], nowMs: number): Lease[] {
    const holding: Lease[] = []
    for (let index = 0; index < this.#asks.length; index++) {
      const { lease, needed } = this.#asks[index] as Ask
      const [granted, fullInUs] = [reply[2 * index], reply[2 * index + 1]] as [number, number]
      lease.heard(granted, fullInUs, nowMs)
      lease.believedUntilMs = nowMs + rememberMs
      if (granted < needed) lease.quietUntilMs = nowMs + quietMs
      if (lease.hand > 0) holding.push(lease)
    }
    return holding
  }
}
