import type { Codec, Decoded, Scalar } from './codec.ts'
import type { CodecContext, CodecInput } from './codec-input.ts'
import { DecodeError } from './decode-error.ts'
import type { JsonObject } from './json.ts'
import { ReadingList } from './reading-list.ts'
import { addPresence, objectOf } from './text-reading.ts'
import { timeOfUnit } from './time.ts'
import { named, transportDevice } from './topic-device.ts'

/** OwnTracks: `owntracks/USER/DEVICE`, or its HTTP mode. */
export const owntracksCodec: Codec = { name: 'owntracks', decode }

/** What a location may say besides the place, with its unit. */
const fields: readonly (readonly [string, string | undefined])[] = [
  ['alt', 'm'],
  ['acc', 'm'],
  ['vac', 'm'],
  ['rad', 'm'],
  ['vel', 'km/h'],
  ['cog', 'deg'],
  ['batt', '%EL'],
  ['p', 'kPa'],
  ...['bs', 'm', 't', 'conn', 'tag', 'poi', 'SSID', 'BSSID'].map((key) => [key, undefined] as const),
]

export function isOwntracksTopic(topic: string): boolean {
  return topic.startsWith('owntracks/') && topic.includes('/', 'owntracks/'.length)
}

function decode(input: CodecInput): Decoded {
  const readings = new ReadingList()
  const message = objectOf(input)
  if (typeof message._type !== 'string') throw new DecodeError('malformed', '_type must be a text')
  if (message._type === 'encrypted') throw new DecodeError('unsupported', 'the location is encrypted')
  if (message._type === 'lwt') addPresence(readings, deviceOf(input.context, message), false)
  else if (message._type === 'location') addLocation(readings, deviceOf(input.context, message), message)
  return readings
}

function deviceOf(context: CodecContext, { topic }: JsonObject): string {
  const name = context.transport === 'mqtt' ? context.topic : topic
  const [, user, device] = typeof name === 'string' ? name.split('/', 3) : []
  if (user !== undefined && device !== undefined) return user === '' || device === '' ? named('') : `${user}/${device}`
  const limits = limitsOf(context)
  return limits ?? context.device ?? transportDevice(context)
}

/** What the app tells beside its messages in HTTP mode: user and device. */
function limitsOf({ headers }: CodecContext): string | undefined {
  const user = headers?.get('x-limit-u')
  const device = headers?.get('x-limit-d')
  if (user === undefined || device === undefined) return undefined
  return user === '' || device === '' ? named('') : `${user}/${device}`
}

function addLocation(readings: ReadingList, device: string, message: JsonObject): void {
  const timeUs = timeOfUnit(message.tst, 1e6)
  readings.add(device, 'lat', degrees(message.lat, 'lat', 90), 'lat', timeUs)
  readings.add(device, 'lon', degrees(message.lon, 'lon', 180), 'lon', timeUs)
  for (const [key, unit] of fields) {
    const value = message[key]
    if (value === undefined || value === null) continue
    if (typeof value === 'object') throw new DecodeError('bad_value', `${key} must be one value`)
    readings.add(device, key, value as Scalar, unit, timeUs)
  }
}

function degrees(value: unknown, name: string, limit: number): number {
  if (typeof value === 'number' && Math.abs(value) <= limit) return value
  throw new DecodeError('bad_value', `${name} must be a number from -${limit} to ${limit}`)
}
