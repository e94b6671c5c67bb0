import type { RawReading, Scalar } from './codec.ts'
import { DecodeError } from './decode-error.ts'
import { quoted } from './quote.ts'

export const maxReadings = 1000

/** Collects what a codec finds, and ends the decoding at the first reading too many, so that a flood of keys costs no more than a full message. */
export class ReadingList {
  readonly readings: RawReading[] = []
  /** Index of the array element that is being decoded; 0 where the message is no array. */
  element = 0

  add(device: string, metric: string, value: Scalar, unit: string | undefined, timeUs: number | undefined): void {
    if (this.readings.length === maxReadings)
      throw new DecodeError('too_many_readings', `more than ${maxReadings} readings`)
    if (typeof value === 'number' && !Number.isFinite(value))
      throw new DecodeError('bad_value', `${quoted(metric)} is too large for a double`)
    this.readings.push({ device, metric, value, unit, timeUs, element: this.element })
  }
}
