import { flatten } from './flatten.ts'
import { isObject, type JsonObject } from './json.ts'
import type { ReadingList } from './reading-list.ts'
import { unitOf } from './unit.ts'

const maxKeyBytes = 256

/** `{ "id"?, "ts"?, "values": { metric: value | { "value", "unit"? } | nested } }`; other keys say nothing. */
export type OwnForm = JsonObject & { readonly values: JsonObject }

export function isOwnForm(object: JsonObject): object is OwnForm {
  return isObject(object.values)
}

export function addOwnValues(
  readings: ReadingList,
  device: string,
  values: JsonObject,
  timeUs: number | undefined,
): void {
  for (const metric in values) {
    const member = values[metric]
    if (typeof member === 'object' && member !== null) {
      if (!addWithUnit(readings, device, metric, member as JsonObject, timeUs))
        flatten(readings, device, metric, member, timeUs)
    } else flatten(readings, device, metric, member, timeUs)
  }
}

/** The sender's own name of the message; undefined when it is no text or number that can serve as one. */
export function messageKeyOf({ id }: OwnForm): string | undefined {
  if (typeof id === 'number') return Number.isFinite(id) ? String(id) : undefined
  if (typeof id !== 'string' || id === '' || Buffer.byteLength(id) > maxKeyBytes) return undefined
  return id.isWellFormed() && !id.includes('\0') ? id : undefined
}

/** An object of exactly `value` (a scalar) and `unit` (a text), or of `value` alone. */
function addWithUnit(
  readings: ReadingList,
  device: string,
  metric: string,
  member: JsonObject,
  timeUs: number | undefined,
): boolean {
  const { value, unit } = member
  let isScalar = false
  for (const key in member) {
    if (key === 'value') isScalar = typeof value !== 'object' || value === null
    else if (key !== 'unit' || typeof unit !== 'string') return false
  }
  if (!isScalar) return false
  if (value !== null)
    readings.add(
      device,
      metric,
      value as number | string | boolean,
      typeof unit === 'string' ? unitOf(unit) : undefined,
      timeUs,
    )
  return true
}
