import { FairShares } from './fair-shares.ts'
import type { Rule } from './limits.ts'
import type { LimitLevel } from './rate-limiter.ts'

/** Rounding of additions and refills may not cost a wait of a millisecond. */
const tolerance = 1e-9

/** The tokens of one owner under one window. They refill as in RFC 2697 §3, up to the burst. */
export class Bucket {
  readonly rule: Rule
  /** Tokens gone since it was full, when that was true: 0 is full, more than the burst is a debt. */
  used = 0
  atMs: number
  /** Of those tokens, what this gateway still has to spend: a lease. */
  hand = 0
  /** Only while more is asked for than there is. */
  shares: FairShares | undefined = undefined
  /** Its own part of burst and rate where several gateways count each for itself. */
  #burst: number
  #perMs: number

  constructor(rule: Rule, nowMs: number, parts = 1) {
    this.rule = rule
    this.atMs = nowMs
    this.#burst = rule.burst / parts
    this.#perMs = rule.burst / (rule.seconds * 1000) / parts
  }

  /** Counts from now on with an equal part of burst and rate. What was used stays used. */
  divideBy(parts: number, nowMs: number): void {
    this.refill(nowMs)
    this.#burst = this.rule.burst / parts
    this.#perMs = this.rule.burst / (this.rule.seconds * 1000) / parts
  }

  get burst(): number {
    return this.#burst
  }

  get perMs(): number {
    return this.#perMs
  }

  refill(nowMs: number): void {
    const ms = nowMs - this.atMs
    if (ms <= 0) return
    this.used = Math.max(this.hand, this.used - ms * this.#perMs)
    this.atMs = nowMs
  }

  isFull(nowMs: number): boolean {
    return this.hand === 0 && this.used <= (nowMs - this.atMs) * this.#perMs
  }

  /** What is told of it. */
  level(nowMs: number): LimitLevel {
    const { limit, burst, seconds } = this.rule
    const used = Math.max(0, this.used - this.hand - Math.max(0, nowMs - this.atMs) * this.#perMs)
    const left = Math.max(0, Math.floor(this.#burst - used + this.#burst * tolerance))
    return { limit, burst, seconds, left, resetMs: Math.ceil(used / this.#perMs) }
  }

  /** Whether the asker goes beyond its equal part of a limit that is too small for all. @param parts gateways that share it */
  isGreedy(asker: string, amount: number, nowMs: number, parts: number): boolean {
    if (this.shares === undefined) return false
    if (this.shares.isOver(nowMs)) {
      this.shares = undefined
      return false
    }
    return this.shares.isGreedy(asker, amount, this.#burst / parts, this.#perMs / parts, nowMs)
  }

  /**
   * Refilled before. What is in hand counts as there.
   * @returns whole milliseconds until the amount fits, or for more than the burst until the bucket is full; 0 when it fits now
   */
  waitMs(amount: number, isGreedy: boolean): number {
    const cap = isGreedy && this.shares !== undefined ? this.#burst - this.shares.reserve : this.#burst
    const over = this.used - this.hand + Math.min(amount, cap) - cap - this.#burst * tolerance
    return over <= 0 ? 0 : Math.max(1, Math.ceil(over / this.#perMs))
  }

  /** The amount was refused. @returns how long the asker shall wait */
  refused(asker: string, amount: number, isGreedy: boolean, waitMs: number, nowMs: number): number {
    if (this.rule.owner === 'device') return waitMs
    this.shares ??= new FairShares(this.#burst)
    return this.shares.refused(asker, amount, isGreedy, waitMs, this.#perMs, nowMs)
  }

  /** @param amount negative when it is given back */
  shared(asker: string, amount: number): void {
    if (this.shares === undefined) return
    this.shares.spent(asker, amount)
    this.shares.resetReserve(amount)
  }
}
