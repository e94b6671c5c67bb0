import { Histogram } from './histogram.ts'

/** One second of a run. */
export interface Second {
  /** Seconds since the start. */
  readonly at: number
  readonly due: number
  readonly sent: number
  readonly accepted: number
  readonly errors: number
  readonly connected: number
  readonly inFlight: number
  readonly waiting: number
  /** Milliseconds from due to acknowledged, of what was acknowledged in this second; null when nothing was. */
  readonly p50: number | null
  readonly p99: number | null
}

/** Counts of a run so far. */
export interface Counts {
  due: number
  /** Messages that were sent at least once. */
  sent: number
  /** Acknowledged; QoS 0 never is. */
  accepted: number
  parked: number
  refused: number
  /** QoS 0: written, and nobody says more. */
  unanswered: number
  resent: number
  reconnects: number
}

export function emptyCounts(): Counts {
  return { due: 0, sent: 0, accepted: 0, parked: 0, refused: 0, unanswered: 0, resent: 0, reconnects: 0 }
}

export function addCounts(into: Counts, more: Counts): void {
  for (const name of Object.keys(into) as (keyof Counts)[]) into[name] += more[name]
}

/** Everything that is counted while a fleet runs. */
export class Stats {
  readonly counts = emptyCounts()
  readonly errors = new Map<string, number>()
  readonly answers = new Histogram()
  /** How late the simulator itself was with a message. */
  readonly pace = new Histogram()
  /** Since the last {@link Stats.takeSecond}. */
  #recent = new Histogram()
  #before = emptyCounts()
  #errorsBefore = 0
  #errorCount = 0

  /** @param us from due to acknowledged; undefined for a message whose device itself has delayed it */
  accepted(us: number | undefined): void {
    this.counts.accepted++
    if (us === undefined) return
    this.answers.record(us)
    this.#recent.record(us)
  }

  error(code: string): void {
    this.#errorCount++
    // Codes come from the other side: a bounded number of them.
    const key = this.errors.size < 100 || this.errors.has(code) ? code : 'others'
    this.errors.set(key, (this.errors.get(key) ?? 0) + 1)
  }

  takeSecond(
    at: number,
    now: { connected: number; inFlight: number; waiting: number },
  ): { second: Second; recent: Histogram } {
    const { counts } = this
    const recent = this.#recent
    const second: Second = {
      at,
      due: counts.due - this.#before.due,
      sent: counts.sent - this.#before.sent,
      accepted: counts.accepted - this.#before.accepted,
      errors: this.#errorCount - this.#errorsBefore,
      ...now,
      p50: recent.count === 0 ? null : recent.at(0.5) / 1000,
      p99: recent.count === 0 ? null : recent.at(0.99) / 1000,
    }
    this.#before = { ...counts }
    this.#errorsBefore = this.#errorCount
    this.#recent = new Histogram()
    return { second, recent }
  }
}
