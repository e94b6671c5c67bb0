import { DecodeError } from './decode-error.ts'
import { type JsonObject, maxDepth } from './json.ts'
import type { ReadingList } from './reading-list.ts'

/**
 * Each scalar inside a value becomes a reading: keys are joined with `.`, array elements by their index. null, `{}` and `[]` give nothing.
 * @param metric the name of the value itself; its members' names start with it
 */
export function flatten(
  readings: ReadingList,
  device: string,
  metric: string,
  value: unknown,
  timeUs: number | undefined,
): void {
  flattenAt(1, readings, device, metric, value, timeUs)
}

/** As `flatten`, for an object without a name of its own, without the members that said something else. */
export function flattenMembers(
  readings: ReadingList,
  device: string,
  object: JsonObject,
  timeUs: number | undefined,
  skipped?: string,
  alsoSkipped?: string,
): void {
  for (const key in object)
    if (key !== skipped && key !== alsoSkipped) flattenAt(1, readings, device, key, object[key], timeUs)
}

function flattenAt(
  depth: number,
  readings: ReadingList,
  device: string,
  metric: string,
  value: unknown,
  timeUs: number | undefined,
): void {
  switch (typeof value) {
    case 'number':
    case 'string':
    case 'boolean':
      readings.add(device, metric, value, undefined, timeUs)
      return
    case 'object':
      if (value === null) return
      if (depth > maxDepth) throw new DecodeError('too_deep', `more than ${maxDepth} nested objects and arrays`)
      if (Array.isArray(value)) {
        for (let index = 0; index < value.length; index++)
          if (value[index] !== null) flattenAt(depth + 1, readings, device, `${metric}.${index}`, value[index], timeUs)
      } else {
        const object = value as JsonObject
        for (const key in object) flattenAt(depth + 1, readings, device, `${metric}.${key}`, object[key], timeUs)
      }
      return
    default:
      throw new DecodeError('bad_value', `a ${typeof value} is no value`)
  }
}
