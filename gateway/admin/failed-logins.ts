interface Failures {
  count: number
  lastMs: number
}

const freeOfCharge = 3
const firstDelayMs = 100
const longestDelayMs = 5000
const forgottenAfterMs = 60_000
const maxAddresses = 10_000

/**
 * Slows down whoever guesses tokens: from the fourth failure in a row of minutes an address waits for its refusals, twice as long each time.
 * Right tokens are never delayed, so nobody locks an administrator out who sits behind the same address.
 */
export class FailedLogins {
  /** In the order of their last failure: the oldest goes when there are too many. */
  readonly #addresses = new Map<string, Failures>()

  /** @returns how long the refusal shall wait */
  failed(address: string, nowMs = Date.now()): number {
    const before = this.#addresses.get(address)
    const count = before !== undefined && nowMs - before.lastMs < forgottenAfterMs ? before.count + 1 : 1
    this.#addresses.delete(address)
    this.#addresses.set(address, { count, lastMs: nowMs })
    if (this.#addresses.size > maxAddresses) this.#addresses.delete(this.#addresses.keys().next().value as string)
    if (count <= freeOfCharge) return 0
    return Math.min(longestDelayMs, firstDelayMs * 2 ** Math.min(count - freeOfCharge - 1, 10))
  }

  get size(): number {
    return this.#addresses.size
  }
}
