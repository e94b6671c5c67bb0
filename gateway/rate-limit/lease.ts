import { Bucket } from './bucket.ts'
import type { Rule } from './limits.ts'

/** What was not spent for this long goes back, and one who pauses longer gets no more than it needs. */
export const idleMs = 2000

/**
 * How many tokens a gateway may have in hand: ten, but never more than a twentieth of a small burst, so that a limit of less than twenty
 * is counted in Redis exactly; of a large burst a hundredth.
 */
export function leaseSize({ burst }: Pick<Rule, 'burst'>): number {
  return Math.max(Math.min(10, Math.floor(burst / 20)), Math.floor(burst / 100))
}

/** One bucket in Redis as this gateway knows it, and what it has of it in hand. */
export class Lease extends Bucket {
  readonly key: string
  readonly size: number
  /** When a cost was last paid from it. */
  spentMs = Number.NEGATIVE_INFINITY
  /** Whether the time before was shortly before that. */
  #isBusy = false
  /** Until when what was heard of the bucket is reason enough to refuse. */
  believedUntilMs = Number.NEGATIVE_INFINITY
  /** Not to be asked for again before. */
  quietUntilMs = Number.NEGATIVE_INFINITY
  /** Takes that wait for Redis and will spend of it. */
  takes = 0
  /** Tokens on their way back. */
  back = 0
  /** What the call in preparation asks for: one cost above the burst, or what the modest and the greedy need. */
  call = 0
  over = 0
  modest = 0
  greedy = 0

  constructor(rule: Rule, tenant: string, payer: string, nowMs: number) {
    super(rule, nowMs)
    // The window is part of the key: gateways that run with different limits, as while settings are rolled out, then never read each
    // other's buckets. A tenant's name has no slash, so tenant and device cannot be confused.
    const { limit, burst, seconds } = rule
    this.key = `fleetbridge:limit:${limit}:${burst}:${seconds}:${tenant}/${payer}`
    this.size = leaseSize(rule)
  }

  /** Whole milliseconds until there could be an answer other than no; 0 when Redis has to be asked. */
  refusalMs(amount: number, isGreedy: boolean, nowMs: number): number {
    const quietMs = Math.ceil(this.quietUntilMs - nowMs)
    if (nowMs >= this.believedUntilMs) return Math.max(0, quietMs)
    return Math.max(this.waitMs(amount, isGreedy), quietMs, 0)
  }

  spend(amount: number, nowMs: number): void {
    this.hand -= amount
    if (nowMs === this.spentMs) return // another cost of the same take
    this.#isBusy = nowMs - this.spentMs < idleMs
    this.spentMs = nowMs
  }

  /** Takes what is above a number of tokens out of the hand, to be sent back. @returns whether there was any */
  handBack(keep: number): boolean {
    const surplus = this.hand - keep
    if (surplus <= 0) return false
    this.hand = keep
    this.used = Math.max(this.hand, this.used - surplus)
    this.back += surplus
    return true
  }

  /** How many tokens more it should have in hand: none for one who comes seldom, and none where more is asked for than there is. */
  wanted(hand: number, nowMs: number): number {
    if (!this.#isBusy || nowMs - this.spentMs >= idleMs || this.shares !== undefined) return 0
    return hand * 4 <= this.size ? Math.max(0, this.size - hand) : 0
  }

  /** What Redis answered. */
  heard(granted: number, fullInUs: number, nowMs: number): void {
    this.hand += granted
    this.used = Math.max(this.hand, (fullInUs / 1000) * this.perMs)
    this.atMs = nowMs
  }
}
