const windowMs = 60_000
const freeStrikes = 3
const firstDelayMs = 1000
const maxDelayMs = 30_000
const maxRemembered = 32

/**
 * Slows a client down that is closed again and again: MQTT 3.1.1 has no other word for "no", and such a client comes back at once with the
 * same message.
 */
export class Pacing {
  #strikes: number[] = []
  #notBeforeMs = 0
  /** Checksums of what was refused as not allowed, and how often. */
  readonly #refused = new Map<number, number>()

  /** A PUBLISH was refused as not allowed, and the connection ends: after three within a minute coming back takes 1, 2, 4 … 30 s. */
  notAllowed(checksum: number, nowMs: number): void {
    this.#strike(nowMs)
    const count = this.#refused.get(checksum) ?? 0
    this.#refused.delete(checksum)
    this.#refused.set(checksum, count + 1)
    if (this.#refused.size > maxRemembered) {
      const [oldest] = this.#refused.keys()
      if (oldest !== undefined) this.#refused.delete(oldest)
    }
  }

  /** A message was held over its limit until its time was up: coming back makes sense once the limit would let it pass. */
  rateLimited(waitMs: number, nowMs: number): void {
    this.#strike(nowMs)
    this.#delayUntil(nowMs + Math.min(waitMs, maxDelayMs))
  }

  /**
   * Another connection with the same client id took over. Two that do so in turn would go on for ever: after three times within a minute the
   * next one waits 1, 2, 4 … 30 s, and meanwhile the other is served.
   */
  takenOver(nowMs: number): void {
    this.#strike(nowMs)
  }

  /** How often these bytes were refused as not allowed. */
  timesRefused(checksum: number): number {
    return this.#refused.size === 0 ? 0 : (this.#refused.get(checksum) ?? 0)
  }

  /** These bytes are not refused any more, so the count begins anew. */
  forget(checksum: number): void {
    this.#refused.delete(checksum)
  }

  /** How long the answer to a CONNECT has to wait. */
  delayMs(nowMs: number): number {
    return Math.max(0, this.#notBeforeMs - nowMs)
  }

  /** False when nothing here matters any more. */
  isWorthKeeping(nowMs: number): boolean {
    const last = this.#strikes.at(-1)
    return last !== undefined && (nowMs - last < 5 * windowMs || this.#notBeforeMs > nowMs)
  }

  #strike(nowMs: number): void {
    this.#strikes = this.#strikes.filter((atMs) => nowMs - atMs < windowMs)
    this.#strikes.push(nowMs)
    const beyond = this.#strikes.length - freeStrikes
    if (beyond >= 0) this.#delayUntil(nowMs + Math.min(maxDelayMs, firstDelayMs * 2 ** Math.min(beyond, 5)))
  }

  #delayUntil(atMs: number): void {
    this.#notBeforeMs = Math.max(this.#notBeforeMs, atMs)
  }
}
