import type { Codec, Decoded } from './codec.ts'
import type { CodecInput } from './codec-input.ts'
import { DecodeError } from './decode-error.ts'
import { isObject, type JsonObject } from './json.ts'
import { quoted } from './quote.ts'
import { ReadingList } from './reading-list.ts'
import { jsonNumberOf } from './text-value.ts'
import { timeOf } from './time.ts'
import { deviceSegment, named, transportDevice } from './topic-device.ts'
import { unitOf } from './unit.ts'

/** The request of the earlier IoT Stream Engine: `{ device_id, reading_type, reading_value, unit, timestamp?, battery_level? }`, or an array of them. */
export const seedCodec: Codec = { name: 'seed', decode }

/** Both keys, whatever they hold: what is wrong in them is then said in this form's words. */
export function isSeedForm(value: unknown): boolean {
  return isObject(value) && value.reading_value !== undefined && value.reading_type !== undefined
}

function decode(input: CodecInput): Decoded {
  const readings = new ReadingList()
  const document = input.json()
  if (!Array.isArray(document)) decodeElement(readings, input, document)
  else
    for (const element of document) {
      decodeElement(readings, input, element)
      readings.element++
    }
  return readings
}

function decodeElement(readings: ReadingList, input: CodecInput, element: unknown): void {
  if (!isObject(element)) throw new DecodeError('bad_value', 'an element of an array must be an object')
  const { reading_type: metric, reading_value: value, unit, timestamp, battery_level: battery } = element
  if (metric === undefined || value === undefined)
    throw new DecodeError('malformed', 'reading_type and reading_value are required')
  if (typeof metric !== 'string') throw new DecodeError('bad_value', 'reading_type must be a text')
  const device = deviceOf(input, element)
  const timeUs = timestamp === undefined ? undefined : timeOf(timestamp)
  readings.add(device, metric, numberOf(value), unitIn(unit), timeUs)
  if (battery !== undefined && battery !== null)
    readings.add(device, 'battery_level', percentOf(battery), '%EL', timeUs)
}

function deviceOf({ context }: CodecInput, { device_id: device }: JsonObject): string {
  if (typeof device === 'string') return named(device)
  if (typeof device === 'number' && Number.isFinite(device)) return String(device)
  if (device !== undefined && device !== null) throw new DecodeError('no_device', 'device_id must be a text')
  return named(context.device ?? deviceSegment(context)?.device ?? transportDevice(context))
}

function numberOf(value: unknown): number {
  if (typeof value === 'number') return value
  const number = typeof value === 'string' ? jsonNumberOf(value) : undefined
  if (number !== undefined) return number
  throw new DecodeError(
    'bad_value',
    `reading_value must be a number${typeof value === 'string' ? `, not ${quoted(value)}` : ''}`,
  )
}

function percentOf(battery: unknown): number {
  if (typeof battery === 'number' && battery >= 0 && battery <= 100) return battery
  throw new DecodeError('bad_value', 'battery_level must be a number from 0 to 100')
}

function unitIn(unit: unknown): string | undefined {
  if (unit === undefined || unit === null) return undefined
  if (typeof unit === 'string') return unitOf(unit)
  throw new DecodeError('bad_value', 'unit must be a text')
}
