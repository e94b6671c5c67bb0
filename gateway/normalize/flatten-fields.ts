import { DecodeError } from './decode-error.ts'
import { isObject, maxDepth } from './json.ts'
import type { ReadingList } from './reading-list.ts'

/** What a format knows about the fields of its objects. `path` holds the keys from the outermost, array indexes among them; it is reused, so nobody keeps it. */
export interface FieldRules {
  /** @param metric the whole name of the reading */
  unitOf(metric: string, path: readonly string[]): string | undefined
  /** Whether the field that the path ends in gives no readings. */
  skips?(path: readonly string[]): boolean
}

/**
 * As `flatten` and `flattenMembers`, for formats that fix the units of their fields or leave some out.
 * @param prefix the name of the value itself; undefined for an object whose members stand alone
 */
export function flattenFields(
  readings: ReadingList,
  device: string,
  prefix: string | undefined,
  value: unknown,
  timeUs: number | undefined,
  rules: FieldRules,
): void {
  new FieldWalk(readings, device, timeUs, rules).walk(prefix, value)
}

class FieldWalk {
  readonly #readings: ReadingList
  readonly #device: string
  readonly #timeUs: number | undefined
  readonly #rules: FieldRules
  readonly #path: string[] = []

  constructor(readings: ReadingList, device: string, timeUs: number | undefined, rules: FieldRules) {
    this.#readings = readings
    this.#device = device
    this.#timeUs = timeUs
    this.#rules = rules
  }

  walk(prefix: string | undefined, value: unknown): void {
    if (prefix !== undefined) this.#member(undefined, prefix, value)
    else this.#members(undefined, value)
  }

  #members(metric: string | undefined, value: unknown): void {
    // The parser has refused deeper JSON; this holds for whatever else is walked one day.
    if (this.#path.length > maxDepth)
      throw new DecodeError('too_deep', `more than ${maxDepth} nested objects and arrays`)
    if (Array.isArray(value)) for (let at = 0; at < value.length; at++) this.#member(metric, String(at), value[at])
    else if (isObject(value)) for (const key in value) this.#member(metric, key, value[key])
  }

  #member(parent: string | undefined, key: string, value: unknown): void {
    if (value === null) return
    this.#path.push(key)
    if (!this.#rules.skips?.(this.#path)) {
      const metric = parent === undefined ? key : `${parent}.${key}`
      if (typeof value === 'number' || typeof value === 'string' || typeof value === 'boolean')
        this.#readings.add(this.#device, metric, value, this.#rules.unitOf(metric, this.#path), this.#timeUs)
      else if (typeof value === 'object') this.#members(metric, value)
      else throw new DecodeError('bad_value', `a ${typeof value} is no value`)
    }
    this.#path.pop()
  }
}
