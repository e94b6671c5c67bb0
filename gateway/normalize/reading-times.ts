import type { Reading } from '#schema/telemetry-event.ts'
import type { ArrivalClock } from './arrival-clock.ts'
import type { RawReading } from './codec.ts'

export type ReadingDraft = { -readonly [Key in keyof Reading]: Reading[Key] }

/** A device clock further ahead than this is not believed: one wild clock must not freeze the latest values. */
const maxAheadUs = 10 * 60 * 1_000_000

/** Gives the readings of one message their times: the device's own, or the arrival, one step for each element of an array. */
export class ReadingTimes {
  readonly #clock: ArrivalClock
  readonly #ingestTimeUs: number
  #arrivalUs = 0
  #arrivalElement = -1

  constructor(clock: ArrivalClock, ingestTimeUs: number) {
    this.#clock = clock
    this.#ingestTimeUs = ingestTimeUs
  }

  stamp(reading: ReadingDraft, { timeUs, element }: RawReading): void {
    if (timeUs === undefined) {
      reading.eventTimeUs = this.#arrivalOf(element)
      reading.clock = 1
    } else if (timeUs > this.#ingestTimeUs + maxAheadUs) {
      reading.eventTimeUs = this.#arrivalOf(element)
      reading.deviceTimeUs = timeUs
      reading.clock = 2
    }
  }

  #arrivalOf(element: number): number {
    if (element !== this.#arrivalElement) {
      this.#arrivalElement = element
      this.#arrivalUs = this.#clock.next(this.#ingestTimeUs)
    }
    return this.#arrivalUs
  }
}
