import type { Codec, Decoded } from './codec.ts'
import type { CodecContext, CodecInput } from './codec-input.ts'
import { DecodeError } from './decode-error.ts'
import { isObject, type JsonObject } from './json.ts'
import { addPayload, deviceOfEvent, eventsOf } from './lorawan.ts'
import { ReadingList } from './reading-list.ts'
import { asObject } from './text-reading.ts'
import { optionalTimeOf } from './time.ts'

/** ChirpStack v4 in its JSON encoding: `application/ID/device/EUI/event/up`, or by its HTTP integration with `?event=up`. */
export const chirpstackCodec: Codec = { name: 'chirpstack', decode }

export function isChirpstackTopic(topic: string): boolean {
  if (!topic.startsWith('application/')) return false
  const [, , marker, device] = topic.split('/', 4)
  return marker === 'device' && device !== undefined
}

export function isChirpstackEvent(value: unknown): boolean {
  return isObject(value) && isObject(value.deviceInfo) && value.deviceInfo.devEui !== undefined
}

function decode(input: CodecInput): Decoded {
  const readings = new ReadingList()
  const { context } = input
  const isTheirs = context.transport === 'mqtt' && isChirpstackTopic(context.topic)
  const segments = isTheirs ? context.topic.split('/') : []
  const kind = isTheirs ? kindByTopic(segments) : kindByQuery(context)
  if (kind !== 'up' && kind !== 'status' && kind !== 'location') return readings
  for (const event of eventsOf(input, isTheirs)) {
    const info = isObject(event.deviceInfo) ? event.deviceInfo : {}
    const device = deviceOfEvent(input, info.devEui, segments[3])
    const timeUs = optionalTimeOf(event.time)
    if (kind === 'up') addPayload(readings, device, event.object, event.data, 'data', timeUs)
    else if (kind === 'status') addNumbers(readings, device, event, statusUnits, timeUs)
    else addNumbers(readings, device, asObject(event.location, 'location'), locationUnits, timeUs)
    readings.element++
  }
  return readings
}

const statusUnits = [
  ['margin', 'dB'],
  ['batteryLevel', '%EL'],
] as const
const locationUnits = [
  ['latitude', 'lat'],
  ['longitude', 'lon'],
  ['altitude', 'm'],
] as const

/** `event/up` and nothing below; commands are for devices. */
function kindByTopic(segments: readonly string[]): string | undefined {
  return segments[4] === 'event' && segments.length === 6 ? segments[5] : undefined
}

function kindByQuery({ transport, topic }: CodecContext): string {
  const query = transport === 'http' ? topic.indexOf('?') : -1
  return (query < 0 ? undefined : new URLSearchParams(topic.slice(query)).get('event')) ?? 'up'
}

function addNumbers(
  readings: ReadingList,
  device: string,
  object: JsonObject,
  units: readonly (readonly [string, string])[],
  timeUs: number | undefined,
): void {
  for (const [key, unit] of units) {
    const value = object[key]
    if (value === undefined || value === null) continue
    if (typeof value !== 'number') throw new DecodeError('bad_value', `${key} must be a number`)
    readings.add(device, key, value, unit, timeUs)
  }
}
