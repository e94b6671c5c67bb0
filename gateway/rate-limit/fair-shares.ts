/** So long after its last refusal a limit is no longer contended, plus what the refused were told to wait, but not more than that. */
const contendedMs = 2000
const longestMs = 30_000
const pruneMs = 500
/** Past it all others share one share, or a fleet with endless device names would fill memory. */
const maxAskers = 10_000
const everybodyElse = ''

interface Share {
  used: number
  atMs: number
  untilMs: number
  /** When it may come again. */
  turnMs: number
}

/**
 * Who asks of a limit that is too small for all who do. Each has an equal part of rate and burst, and what keeps within its part is modest;
 * what goes beyond is greedy, and may take only what lies above a reserve. So nobody who keeps within an equal part is refused because of
 * those who do not, and what the modest leave goes to whoever asks for it.
 */
export class FairShares {
  /** Tokens that only the modest may take. */
  reserve: number
  readonly #burst: number
  readonly #shares = new Map<string, Share>()
  #untilMs = 0
  #lastTurnMs = 0
  #prunedMs = 0

  /** @param burst of the whole limit */
  constructor(burst: number) {
    this.#burst = burst
    this.reserve = burst / 2
  }

  /** How many asked lately. */
  get count(): number {
    return this.#shares.size
  }

  isOver(nowMs: number): boolean {
    return nowMs > this.#untilMs
  }

  /** @param burst and perMs of the part that this gateway has to share out */
  isGreedy(asker: string, amount: number, burst: number, perMs: number, nowMs: number): boolean {
    const share = this.#of(asker, nowMs)
    const part = this.#shares.size
    share.used = Math.max(0, share.used - ((nowMs - share.atMs) * perMs) / part)
    share.atMs = nowMs
    return share.used + Math.min(amount, burst / part) > (burst / part) * (1 + 1e-9)
  }

  /** @param amount negative when it was given back */
  spent(asker: string, amount: number): void {
    const share = this.#shares.get(asker) ?? this.#shares.get(everybodyElse)
    if (share !== undefined) share.used = Math.max(0, share.used + amount)
  }

  /**
   * @param waitMs until the tokens are there
   * @returns how long to wait: one that is greedy is told when its turn comes, each another, or all who wait would come back together
   */
  refused(asker: string, amount: number, isGreedy: boolean, waitMs: number, perMs: number, nowMs: number): number {
    const share = this.#of(asker, nowMs)
    // By its turn it is most likely modest again, and need not wait for what is above the reserve.
    const ms = isGreedy
      ? Math.max(
          1,
          Math.ceil(waitMs - this.reserve / perMs),
          Math.ceil(this.#turnOf(share, amount, perMs, nowMs) - nowMs),
        )
      : waitMs
    const untilMs = nowMs + contendedMs + Math.min(ms, longestMs)
    this.#untilMs = Math.max(this.#untilMs, untilMs)
    share.untilMs = untilMs
    // A modest one with a large cost needs as much left for it, or small greedy ones would never let it come to that.
    if (!isGreedy && amount > this.reserve) this.reserve = Math.min(amount, this.#burst)
    return ms
  }

  /** A modest one with a large cost has passed. */
  resetReserve(amount: number): void {
    if (amount >= this.reserve) this.reserve = this.#burst / 2
  }

  /** Turns follow one another at the limit's rate, for as many as ask; then they begin anew. None comes before its asker is modest again. */
  #turnOf(share: Share, amount: number, perMs: number, nowMs: number): number {
    if (share.turnMs > nowMs) return share.turnMs
    const stepMs = amount / perMs
    const part = this.#burst / this.#shares.size
    const modestMs = nowMs + ((share.used + Math.min(amount, part) - part) * this.#shares.size) / perMs
    const nextMs = Math.max(nowMs, this.#lastTurnMs) + stepMs
    const isLast = nextMs - nowMs > this.#shares.size * stepMs
    this.#lastTurnMs = isLast ? nowMs + stepMs : nextMs
    share.turnMs = Math.max(this.#lastTurnMs, modestMs)
    return share.turnMs
  }

  #of(asker: string, nowMs: number): Share {
    if (nowMs - this.#prunedMs > pruneMs) this.#prune(nowMs)
    let share = this.#shares.get(asker)
    if (share === undefined && this.#shares.size >= maxAskers) share = this.#shares.get(everybodyElse)
    if (share === undefined) {
      share = { used: 0, atMs: nowMs, untilMs: 0, turnMs: 0 }
      this.#shares.set(this.#shares.size < maxAskers ? asker : everybodyElse, share)
    }
    share.untilMs = Math.max(share.untilMs, nowMs + contendedMs)
    return share
  }

  #prune(nowMs: number): void {
    this.#prunedMs = nowMs
    for (const [asker, { untilMs }] of this.#shares) if (nowMs > untilMs) this.#shares.delete(asker)
  }
}
