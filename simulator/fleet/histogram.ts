import type { Percentiles } from '../tally.ts'

const buckets = 64
const exponents = 32

/**
 * Microseconds in buckets that widen with the value, at most 1.6 % each: unlike Node's it can be sent to another process and added up.
 */
export class Histogram {
  readonly counts: Float64Array
  count = 0
  max = 0

  constructor(counts = new Float64Array(buckets * exponents)) {
    this.counts = counts
  }

  record(us: number): void {
    const value = Math.max(1, Math.round(us))
    const index = indexOf(value)
    this.counts[index] = (this.counts[index] as number) + 1
    this.count++
    if (value > this.max) this.max = value
  }

  add(other: Histogram): void {
    for (let index = 0; index < this.counts.length; index++)
      this.counts[index] = (this.counts[index] as number) + (other.counts[index] as number)
    this.count += other.count
    this.max = Math.max(this.max, other.max)
  }

  reset(): void {
    this.counts.fill(0)
    this.count = 0
    this.max = 0
  }

  /** @param part from 0 to 1. @returns microseconds; 0 when nothing was recorded */
  at(part: number): number {
    let left = Math.ceil(this.count * part)
    for (let index = 0; index < this.counts.length; index++) {
      left -= this.counts[index] as number
      if (left <= 0 && this.count > 0) return Math.min(this.max, topOf(index))
    }
    return this.max
  }

  percentiles(): Percentiles | null {
    if (this.count === 0) return null
    const ms = (part: number) => this.at(part) / 1000
    return { p50: ms(0.5), p90: ms(0.9), p99: ms(0.99), p999: ms(0.999), max: this.max / 1000 }
  }

  /** What JSON carries: only the buckets that hold something. */
  toJSON(): HistogramJson {
    const filled: [number, number][] = []
    this.counts.forEach((count, index) => {
      if (count > 0) filled.push([index, count])
    })
    return { filled, max: this.max }
  }

  static from({ filled, max }: HistogramJson): Histogram {
    const histogram = new Histogram()
    for (const [index, count] of filled) {
      histogram.counts[index] = count
      histogram.count += count
    }
    histogram.max = max
    return histogram
  }
}

export interface HistogramJson {
  readonly filled: readonly (readonly [number, number])[]
  readonly max: number
}

function indexOf(value: number): number {
  if (value < buckets) return value
  const exponent = Math.floor(Math.log2(value)) - 6
  return Math.min(buckets * exponents - 1, buckets + exponent * buckets + Math.floor(value / 2 ** exponent) - buckets)
}

function topOf(index: number): number {
  if (index < buckets) return index
  const exponent = Math.floor((index - buckets) / buckets)
  return (buckets + ((index - buckets) % buckets) + 1) * 2 ** exponent - 1
}
