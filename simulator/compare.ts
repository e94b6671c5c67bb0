import { type Journal, messageState } from './journal.ts'
import type { PayloadMaker } from './payload.ts'

/** One stored reading of a simulated device. */
export interface StoredReading {
  /** Index in the payload maker's metrics; 0 is the number. */
  readonly metric: number
  readonly eventTimeUs: number
  readonly value: number | null
}

/** Messages, but for `rows`, `misplaced` and `foreign`, which count readings. */
export interface Comparison {
  rows: number
  /** Acknowledged, and a reading of it has no row. */
  missing: number
  /** A reading of it has more than one row. */
  doubled: number
  /** Rows that carry the number of one message and the time of another, or another value than was sent. */
  misplaced: number
  /** Rows of these devices and metrics that answer to no message of this run. */
  foreign: number
  /** Stored whole, but never acknowledged: allowed, since the answer may have been lost on the way. */
  unackedButStored: number
  refusedButStored: number
  /** The first findings, for people: `sim-1-7 number 12 (acknowledged): temperature has no row`. */
  readonly examples: string[]
}

const mostExamples = 10

export function emptyComparison(): Comparison {
  return {
    rows: 0,
    missing: 0,
    doubled: 0,
    misplaced: 0,
    foreign: 0,
    unackedButStored: 0,
    refusedButStored: 0,
    examples: [],
  }
}

/** Compares all that one device sent with all its rows of the run, reading by reading, and adds the findings to `into`. */
export function compareDevice(
  into: Comparison,
  device: { readonly index: number; readonly name: string },
  sent: { readonly journal: Journal; readonly payloads: PayloadMaker },
  rows: Iterable<StoredReading>,
): void {
  const { journal, payloads } = sent
  const { index, name } = device
  const metrics = payloads.metrics.length
  const count = journal.count(index)
  const found = new Uint8Array(count * metrics)

  const note = (text: string) => {
    if (into.examples.length < mostExamples) into.examples.push(`${name} ${text}`)
  }

  for (const { metric, eventTimeUs, value } of rows) {
    into.rows++
    const atTime = journal.numberAt(index, eventTimeUs)
    // The number's own row says which message it is of, even at a wrong time; other readings only have their time.
    const number = metric === 0 ? (value ?? 0) : atTime
    if (!Number.isInteger(number) || number < 1 || number > count) {
      into.foreign++
      note(`has a row of no message: ${payloads.metrics[metric]} ${value} at ${eventTimeUs} µs`)
      continue
    }
    if (number !== atTime || value !== payloads.value(metric, index, number)) {
      into.misplaced++
      note(`number ${number}: ${payloads.metrics[metric]} ${value} at ${eventTimeUs} µs is not what was sent`)
    }
    const slot = (number - 1) * metrics + metric
    found[slot] = Math.min(255, (found[slot] as number) + 1)
  }

  for (let number = 1; number <= count; number++) {
    const from = (number - 1) * metrics
    let absent = -1
    let twice = -1
    for (let metric = 0; metric < metrics; metric++) {
      const times = found[from + metric] as number
      if (times === 0) absent = metric
      else if (times > 1) twice = metric
    }
    const state = journal.stateOf(index, number)
    if (twice >= 0) {
      into.doubled++
      note(`number ${number} (${stateNames[state]}): ${payloads.metrics[twice]} has ${found[from + twice]} rows`)
    }
    if (state === messageState.acknowledged) {
      if (absent < 0) continue
      into.missing++
      note(`number ${number} (acknowledged): ${payloads.metrics[absent]} has no row`)
    } else if (absent < 0) {
      if (state === messageState.refused) into.refusedButStored++
      else into.unackedButStored++
    }
  }
}

const stateNames: Readonly<Record<number, string>> = {
  [messageState.due]: 'never sent',
  [messageState.sent]: 'unacknowledged',
  [messageState.acknowledged]: 'acknowledged',
  [messageState.refused]: 'refused',
}
