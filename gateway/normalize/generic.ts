import type { Codec, Decoded, Scalar } from './codec.ts'
import type { CodecInput } from './codec-input.ts'
import { DecodeError } from './decode-error.ts'
import { flattenMembers } from './flatten.ts'
import { isObject, type JsonObject } from './json.ts'
import { mediaTypeOf } from './media-type.ts'
import { addOwnValues, isOwnForm, messageKeyOf } from './own-form.ts'
import { ReadingList } from './reading-list.ts'
import { textValue } from './text-value.ts'
import { timeOf } from './time.ts'
import { deviceOfObject, fleetTopic, named, nameOfScalar, pathOf, transportDevice } from './topic-device.ts'
import { unitOf } from './unit.ts'

/** Any JSON object or array of objects, and plain text. */
export const genericCodec: Codec = { name: 'generic', decode }

/** The form that our documentation asks for. An array may mix both, so the two differ in name only. */
export const ownCodec: Codec = { name: 'own', decode }

const deviceKeys = ['device_id', 'deviceId', 'device'] as const
const timeKeys = ['ts', 'timestamp', 'time', 'datetime'] as const

/** The members of a body that speaks for many devices, `{ "device": [ … ] }`, or undefined for any other. */
export function fleetBodyOf(input: CodecInput, document: unknown): JsonObject | undefined {
  const { transport, topic, device, fleet } = input.context
  const isPlace = transport === 'mqtt' ? topic === fleetTopic : fleet && pathOf(topic) === '/v1/telemetry'
  if (!isPlace || device !== undefined || !isObject(document)) return undefined
  for (const key in document) if (!Array.isArray(document[key])) return undefined
  return document
}

function decode(input: CodecInput): Decoded {
  const readings = new ReadingList()
  if (!input.isDocument()) {
    decodeText(readings, input)
    return readings
  }
  const document = input.json()
  const fleet = fleetBodyOf(input, document)
  if (fleet !== undefined) {
    for (const key in fleet) decodeArray(readings, input, fleet[key] as unknown[], fleetDevice(input, key))
    return readings
  }
  if (!Array.isArray(document)) {
    decodeElement(readings, input, document, undefined)
    return { readings: readings.readings, messageKey: keyOf(document) }
  }
  if (input.context.arrayElement) throw new DecodeError('bad_value', 'an element of an array must be an object')
  decodeArray(readings, input, document, undefined)
  // Several elements have several names, none of which is the message's.
  return { readings: readings.readings, messageKey: document.length === 1 ? keyOf(document[0]) : undefined }
}

function decodeText(readings: ReadingList, input: CodecInput): void {
  if (input.context.arrayElement) throw new DecodeError('bad_value', 'an element of an array must be an object')
  const text = input.text()
  const type = mediaTypeOf(input.context.contentType)
  // Who declares JSON did not mean a text by `ON` or a cut-off body.
  if (type === 'application/json' || type === 'application/x-ndjson') input.json()
  const value = textValue(text)
  if (value === null) return
  const { device, metric } = nameOfScalar(input.context)
  readings.add(device, metric, value, undefined, undefined)
}

function decodeArray(readings: ReadingList, input: CodecInput, elements: unknown[], device: string | undefined): void {
  for (const element of elements) {
    decodeElement(readings, input, element, device)
    readings.element++
  }
}

function fleetDevice({ context }: CodecInput, key: string): string {
  return key === 'me' ? transportDevice(context) : named(key)
}

/** @param owner the device whose array holds the element, in a fleet body */
function decodeElement(readings: ReadingList, input: CodecInput, element: unknown, owner: string | undefined): void {
  if (!isObject(element)) throw new DecodeError('bad_value', 'an element of an array must be an object')
  const deviceKey = deviceKeyOf(element)
  const device = deviceKey === undefined ? (owner ?? deviceOfObject(input.context)) : deviceIn(element[deviceKey])
  const timeKey = timeKeyOf(element)
  const timeUs = timeKey === undefined ? undefined : timeOf(element[timeKey])
  if (isOwnForm(element)) addOwnValues(readings, device, element.values, timeUs)
  else if (!addSingle(readings, device, element, timeUs))
    flattenMembers(readings, device, element, timeUs, deviceKey, timeKey)
}

/** A scalar `value` beside a text that says of what: `{ "metric": "temperature", "value": 21.5, "unit": "C" }`. */
function addSingle(readings: ReadingList, device: string, element: JsonObject, timeUs: number | undefined): boolean {
  const { value, metric, name, unit } = element
  if (value === undefined || (typeof value === 'object' && value !== null)) return false
  if (typeof metric !== 'string' && typeof name !== 'string' && typeof unit !== 'string') return false
  const title = typeof metric === 'string' ? metric : typeof name === 'string' ? name : 'value'
  if (value !== null)
    readings.add(device, title, value as Scalar, typeof unit === 'string' ? unitOf(unit) : undefined, timeUs)
  return true
}

function deviceKeyOf(element: JsonObject): string | undefined {
  for (const key of deviceKeys) {
    const value = element[key]
    if (typeof value === 'string' || typeof value === 'number') return key
  }
  return undefined
}

function deviceIn(value: unknown): string {
  if (typeof value === 'string') return named(value)
  if (Number.isFinite(value)) return String(value)
  throw new DecodeError('bad_value', 'the number of the device is too large for a double')
}

function timeKeyOf(element: JsonObject): string | undefined {
  for (const key of timeKeys) if (element[key] !== undefined && element[key] !== null) return key
  return undefined
}

function keyOf(element: unknown): string | undefined {
  return isObject(element) && isOwnForm(element) ? messageKeyOf(element) : undefined
}
