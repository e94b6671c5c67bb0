import type { Codec, Decoded, Scalar } from './codec.ts'
import type { CodecContext, CodecInput } from './codec-input.ts'
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
export function fleetBodyOf(context: CodecContext, document: unknown): JsonObject | undefined {
  const { transport, topic, device, fleet } = context
  const isPlace = transport === 'mqtt' ? topic === fleetTopic : fleet && pathOf(topic) === '/v1/telemetry'
  if (!isPlace || device !== undefined || !isObject(document)) return undefined
  for (const key in document) if (!Array.isArray(document[key])) return undefined
  return document
}

function decode(input: CodecInput): Decoded {
  if (input.isDocument()) return decodeDocument(input.context, input.json())
  const readings = new ReadingList()
  decodeText(readings, input)
  return readings
}

/**
 * What JSON says, or another encoding of the same: objects and arrays of them by the rules of the own form and generic ones, and one value alone,
 * which keeps its type.
 * @param timeUs of what has no time of its own
 */
export function decodeDocument(context: CodecContext, document: unknown, timeUs?: number): Decoded {
  const readings = new ReadingList()
  const fleet = fleetBodyOf(context, document)
  if (fleet !== undefined) {
    for (const key in fleet) decodeArray(readings, context, fleet[key] as unknown[], fleetDevice(context, key), timeUs)
    return readings
  }
  if (isObject(document)) {
    decodeElement(readings, context, document, undefined, timeUs)
    return { readings: readings.readings, messageKey: keyOf(document) }
  }
  if (context.arrayElement) throw new DecodeError('bad_value', 'an element of an array must be an object')
  if (!Array.isArray(document)) {
    addScalar(readings, context, document, timeUs)
    return readings
  }
  decodeArray(readings, context, document, undefined, timeUs)
  // Several elements have several names, none of which is the message's.
  return { readings: readings.readings, messageKey: document.length === 1 ? keyOf(document[0]) : undefined }
}

function decodeText(readings: ReadingList, input: CodecInput): void {
  if (input.context.arrayElement) throw new DecodeError('bad_value', 'an element of an array must be an object')
  const text = input.text()
  const type = mediaTypeOf(input.context.contentType)
  // Who declares JSON did not mean a text by `ON` or a cut-off body.
  if (type === 'application/json' || type === 'application/x-ndjson') input.json()
  addScalar(readings, input.context, textValue(text), undefined)
}

function addScalar(readings: ReadingList, context: CodecContext, value: unknown, timeUs: number | undefined): void {
  if (value === null) return
  const { device, metric } = nameOfScalar(context)
  readings.add(device, metric, value as Scalar, undefined, timeUs)
}

function decodeArray(
  readings: ReadingList,
  context: CodecContext,
  elements: unknown[],
  device: string | undefined,
  timeUs: number | undefined,
): void {
  for (const element of elements) {
    decodeElement(readings, context, element, device, timeUs)
    readings.element++
  }
}

function fleetDevice(context: CodecContext, key: string): string {
  return key === 'me' ? transportDevice(context) : named(key)
}

/** @param owner the device whose array holds the element, in a fleet body */
function decodeElement(
  readings: ReadingList,
  context: CodecContext,
  element: unknown,
  owner: string | undefined,
  timeOfMessageUs: number | undefined,
): void {
  if (!isObject(element)) throw new DecodeError('bad_value', 'an element of an array must be an object')
  const deviceKey = deviceKeyOf(element)
  const device = deviceKey === undefined ? (owner ?? deviceOfObject(context)) : deviceIn(element[deviceKey])
  const timeKey = timeKeyOf(element)
  const isTimed = timeKey !== undefined && element[timeKey] !== ''
  const timeUs = isTimed ? timeOf(element[timeKey]) : timeOfMessageUs
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
