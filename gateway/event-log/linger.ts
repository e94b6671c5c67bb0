/** A stream of messages counts as dry when none came for this long. */
const quietMs = 1

/**
 * When the next send is due. A lone message goes at once. Otherwise sends start `lingerMs` apart while the input runs dry in between, as it
 * does when clients wait for their acknowledgements, and up to `maxLingerMs` apart while messages keep streaming in, so a send carries more
 * the higher the rate is. A longer interval for clients that wait would only slow them down.
 */
export class Linger {
  private readonly lingerMs: number
  private readonly maxLingerMs: number
  private lastSendMs = Number.NEGATIVE_INFINITY
  private lastArrivalMs = Number.NEGATIVE_INFINITY
  private lone = false

  constructor(lingerMs: number, maxLingerMs: number) {
    this.lingerMs = lingerMs
    this.maxLingerMs = Math.max(lingerMs, maxLingerMs)
  }

  arrived(now: number, wasEmpty: boolean): void {
    this.lone = wasEmpty && now - this.lastArrivalMs >= this.lingerMs
    this.lastArrivalMs = now
  }

  sent(now: number): void {
    this.lastSendMs = now
    this.lone = false
  }

  /** Milliseconds until the send is due or is to be asked about again; 0: now. */
  waitMs(now: number): number {
    const soonest = this.lastSendMs + this.lingerMs
    if (now < soonest) return soonest - now
    if (this.lone || now >= this.lastSendMs + this.maxLingerMs || now - this.lastArrivalMs >= quietMs) return 0
    return quietMs
  }
}
