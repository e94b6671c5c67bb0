import type { CodecInput } from './codec-input.ts'
import { DecodeError } from './decode-error.ts'
import { type FieldRules, flattenFields } from './flatten-fields.ts'
import { isObject, type JsonObject } from './json.ts'
import { quoted } from './quote.ts'
import type { ReadingList } from './reading-list.ts'
import { textValue } from './text-value.ts'

const noRules: FieldRules = { unitOf: () => undefined }

/** A payload of one bare value, or of an object or array that is flattened under the metric's name; without a time. */
export function addTextReading(
  readings: ReadingList,
  input: CodecInput,
  device: string,
  metric: string,
  rules: FieldRules = noRules,
): void {
  const value = input.isDocument() ? input.json() : textValue(input.text())
  // A name of several segments is one key: only the units of whole names can belong to it.
  flattenFields(readings, device, metric, value, undefined, rules)
}

/** A device came or went. */
export function addPresence(readings: ReadingList, device: string, online: boolean): void {
  readings.add(device, 'online', online, undefined, undefined)
}

/**
 * Which of two words a payload is.
 * @throws {DecodeError} `bad_value` for any other
 */
export function isFirstWord(text: string, first: string, second: string): boolean {
  if (text === first) return true
  if (text === second) return false
  throw new DecodeError('bad_value', `${quoted(text)} is neither ${first} nor ${second}`)
}

/** @throws {DecodeError} `malformed` for anything but a JSON object */
export function objectOf(input: CodecInput): JsonObject {
  if (!input.isDocument()) throw new DecodeError('malformed', 'it must be a JSON object')
  return asObject(input.json(), 'the message')
}

/** @throws {DecodeError} `malformed` */
export function asObject(value: unknown, what: string): JsonObject {
  if (isObject(value)) return value
  throw new DecodeError('malformed', `${what} must be an object`)
}
