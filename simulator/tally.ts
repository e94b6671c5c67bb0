import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'

/** Percentiles of acknowledgement times in milliseconds, each counted from the moment at which its message was due. */
export interface Percentiles {
  readonly p50: number
  readonly p90: number
  readonly p99: number
  readonly p999: number
  readonly max: number
}

/** What happened on the way, by kind; the journal knows the messages, this knows answers and connections. */
export class Tally {
  readonly refusals = new Map<string, number>()
  readonly connectionErrors = new Map<string, number>()
  reconnects = 0
  resent = 0
  readonly #answers: RecordableHistogram = microseconds()
  readonly #recent: RecordableHistogram = microseconds()
  readonly #pace: RecordableHistogram = microseconds()

  /** @param us microseconds between the moment at which the message was due and its acknowledgement */
  acknowledged(us: number): void {
    const whole = us < 1 ? 1 : Math.round(us)
    this.#answers.record(whole)
    this.#recent.record(whole)
  }

  /** @param us how much later than its time the simulator itself got round to a message */
  paced(us: number): void {
    this.#pace.record(us < 1 ? 1 : Math.round(us))
  }

  refused(code: string): void {
    add(this.refusals, code)
  }

  connectionError(code: string): void {
    add(this.connectionErrors, code)
  }

  errors(): number {
    return sum(this.refusals) + sum(this.connectionErrors)
  }

  ackMs(): Percentiles | null {
    return this.#answers.count === 0 ? null : percentiles(this.#answers)
  }

  paceMs(): Percentiles | null {
    return this.#pace.count === 0 ? null : percentiles(this.#pace)
  }

  /** The 99th percentile in milliseconds since it was asked last; undefined when nothing was acknowledged since. */
  takeRecentP99Ms(): number | undefined {
    const p99 = this.#recent.count === 0 ? undefined : this.#recent.percentile(99) / 1000
    this.#recent.reset()
    return p99
  }
}

function microseconds(): RecordableHistogram {
  return createHistogram({ lowest: 1, highest: 3_600_000_000, figures: 3 })
}

function percentiles(histogram: RecordableHistogram): Percentiles {
  const ms = (us: number) => us / 1000
  return {
    p50: ms(histogram.percentile(50)),
    p90: ms(histogram.percentile(90)),
    p99: ms(histogram.percentile(99)),
    p999: ms(histogram.percentile(99.9)),
    max: ms(histogram.max),
  }
}

function add(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1)
}

function sum(counts: Map<string, number>): number {
  let total = 0
  for (const count of counts.values()) total += count
  return total
}
