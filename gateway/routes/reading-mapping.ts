import type { RawReading } from '../normalize/codec.ts'
import { NamePatterns } from './name-patterns.ts'

export interface MappingRules {
  /** Metrics that are left out, by the names that the codec gives them. */
  readonly drop: readonly string[]
  /** New names by the codec's; a `*` in both is carried over. */
  readonly rename: readonly (readonly [string, string])[]
  /** Units by the new names; undefined takes the unit away. */
  readonly units: readonly (readonly [string, string | undefined])[]
}

/** What becomes of the readings of one metric. */
interface Target {
  readonly metric: string
  readonly setsUnit: boolean
  readonly unit: string | undefined
}

/** Names of metrics come from devices: what is remembered about them has an end. Longer names than these are parked later on. */
const maxKnown = 4096
const maxKnownLength = 256

/** Leaves metrics out, renames them and gives them units: first `drop`, then `rename`, then `units`. A name is looked at once; then it costs one look-up. */
export class ReadingMapping {
  readonly #drop = new NamePatterns<true>()
  readonly #rename = new NamePatterns<string>()
  readonly #units = new NamePatterns<string | undefined>()
  readonly #known = new Map<string, Target | 'dropped'>()

  constructor({ drop, rename, units }: MappingRules) {
    for (const name of drop) this.#drop.add(name, true)
    for (const [name, to] of rename) this.#rename.add(name, to)
    for (const [name, unit] of units) this.#units.add(name, unit)
  }

  /** The reading as it shall be stored, or undefined when it is left out. */
  apply(reading: RawReading): RawReading | undefined {
    const { metric } = reading
    const target = this.#known.get(metric) ?? this.#lookAt(metric)
    if (target === 'dropped') return undefined
    if (target.metric === metric && !target.setsUnit) return reading
    return { ...reading, metric: target.metric, unit: target.setsUnit ? target.unit : reading.unit }
  }

  #lookAt(metric: string): Target | 'dropped' {
    const target = this.#targetOf(metric)
    if (metric.length > maxKnownLength) return target
    if (this.#known.size >= maxKnown) this.#known.clear()
    // A copy: a name may be a piece of a payload, which it would keep in memory.
    this.#known.set(Buffer.from(metric, 'utf16le').toString('utf16le'), target)
    return target
  }

  #targetOf(metric: string): Target | 'dropped' {
    if (this.#drop.find(metric) !== undefined) return 'dropped'
    const renamed = this.#rename.find(metric)
    const name = renamed === undefined ? metric : renamed.value.replace('*', () => renamed.star)
    const unit = this.#units.find(name)
    return { metric: name, setsUnit: unit !== undefined, unit: unit?.value }
  }
}
