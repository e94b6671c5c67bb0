import type { Codec, Decoded } from './codec.ts'
import type { CodecInput } from './codec-input.ts'
import { type FieldRules, flattenFields } from './flatten-fields.ts'
import type { JsonObject } from './json.ts'
import { ReadingList } from './reading-list.ts'
import { addPresence, addTextReading, asObject, isFirstWord, objectOf } from './text-reading.ts'
import { timeOfUnit, zonedTimeOf } from './time.ts'
import { named, transportDevice } from './topic-device.ts'

/** Tasmota: `tele/plug/SENSOR`, `stat/plug/RESULT` and the like, in whatever order the full topic is set to. */
export const tasmotaCodec: Codec = { name: 'tasmota', decode }

const lastSegment = /^[A-Z0-9_]+$/
/** Answers to `Status`: those with readings, and all others, which tell of settings. */
const sensorStatus = new Set(['STATUS8', 'STATUS10', 'STATUS11'])
const anyStatus = /^STATUS\d*$/
const digitsOnly = /^\d+$/

const topLevelNotes = new Set(['Time', 'Epoch', 'TempUnit', 'PressureUnit', 'SpeedUnit'])
const units = new Map([
  ['Humidity', '%RH'],
  ['Illuminance', 'lx'],
  ['CarbonDioxide', 'ppm'],
  ['eCO2', 'ppm'],
  ['TVOC', 'ppb'],
  ['Battery', '%EL'],
  ['Vcc', 'V'],
  ['UptimeSec', 's'],
  ['Signal', 'dBm'],
])
const energyUnits = new Map([
  ['Total', 'kWh'],
  ['Today', 'kWh'],
  ['Yesterday', 'kWh'],
  ['Period', 'Wh'],
  ['Power', 'W'],
  ['ApparentPower', 'VA'],
  ['ReactivePower', 'var'],
  ['Voltage', 'V'],
  ['Current', 'A'],
  ['Frequency', 'Hz'],
])
const temperatureUnits = new Map<unknown, string>([
  ['C', 'Cel'],
  ['F', '[degF]'],
])
const pressureUnits = new Map<unknown, string>([
  ['hPa', 'hPa'],
  ['mmHg', 'mm[Hg]'],
])

export function isTasmota(topic: string): boolean {
  if (!topic.includes('tele') && !topic.includes('stat')) return false
  if (!lastSegment.test(topic.slice(topic.lastIndexOf('/') + 1))) return false
  return topic.split('/').some(isPrefix)
}

function decode(input: CodecInput): Decoded {
  const readings = new ReadingList()
  const segments = input.context.topic.split('/')
  const last = segments.pop() ?? ''
  if (anyStatus.test(last) && !sensorStatus.has(last)) return readings
  segments.splice(segments.findIndex(isPrefix), 1)
  const device = segments.length === 0 ? transportDevice(input.context) : named(segments.join('/'))

  if (last === 'LWT') addPresence(readings, device, isFirstWord(input.text().toLowerCase(), 'online', 'offline'))
  else if (sensorStatus.has(last)) addObject(readings, device, insideStatus(objectOf(input)))
  else if (input.text().startsWith('{')) addObject(readings, device, objectOf(input))
  else addTextReading(readings, input, device, last)
  return readings
}

function isPrefix(segment: string): boolean {
  return segment === 'tele' || segment === 'stat'
}

function insideStatus(object: JsonObject): JsonObject {
  const [key = '', ...others] = Object.keys(object)
  return asObject(key.startsWith('Status') && others.length === 0 ? object[key] : undefined, 'the one Status… in it')
}

function addObject(readings: ReadingList, device: string, object: JsonObject): void {
  flattenFields(readings, device, undefined, object, timeIn(object), rulesOf(object))
}

/** A time without zone is local time of a zone that nobody knows: the arrival time is nearer to the truth. */
function timeIn({ Epoch: epoch, Time: time }: JsonObject): number | undefined {
  return epoch === undefined || epoch === null || epoch === '' ? zonedTimeOf(time) : timeOfUnit(epoch, 1e6)
}

function rulesOf({ TempUnit, PressureUnit }: JsonObject): FieldRules {
  const temperature = temperatureUnits.get(TempUnit)
  const pressure = pressureUnits.get(PressureUnit)
  return {
    skips(path) {
      const key = path[path.length - 1] ?? ''
      return key === 'TotalStartTime' || (path.length === 1 && topLevelNotes.has(key))
    },
    unitOf(_metric, path) {
      const at = path.findLastIndex((key) => !digitsOnly.test(key))
      const key = path[at] ?? ''
      if (key === 'Temperature' || key === 'DewPoint') return temperature
      if (key === 'Pressure' || key === 'SeaPressure') return pressure
      const energy = path.indexOf('ENERGY')
      return (energy >= 0 && energy < at ? energyUnits.get(key) : undefined) ?? units.get(key)
    },
  }
}
