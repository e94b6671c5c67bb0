import type { Codec, Decoded } from './codec.ts'
import type { CodecInput } from './codec-input.ts'
import type { FieldRules } from './flatten-fields.ts'
import { ReadingList } from './reading-list.ts'
import { addPresence, addTextReading, isFirstWord } from './text-reading.ts'
import { named, transportDevice } from './topic-device.ts'

/** The first generation of Shelly: `shellies/DEVICE/…`, one value a topic. */
export const shellyGen1Codec: Codec = { name: 'shelly-gen1', decode }

/** Where the metric begins: device names may have slashes. */
const firstOfMetric = new Set(
  (
    'relay emeter roller light color white input input_event longpush sensor adc temperature temperature_f temperature_status ' +
    'overtemperature ext_temperature ext_temperature_f ext_humidity ext_switch voltage online announce info command'
  ).split(' '),
)
const notTelemetry = new Set(['announce', 'info', 'input_event'])

const units = new Map([
  ['temperature', 'Cel'],
  ['temperature_f', '[degF]'],
  ['voltage', 'V'],
  ['sensor.humidity', '%RH'],
  ['sensor.battery', '%EL'],
  ['sensor.lux', 'lx'],
  ['ext_temperature.*', 'Cel'],
  ['ext_temperature_f.*', '[degF]'],
  ['ext_humidity.*', '%RH'],
  ['relay.*.power', 'W'],
  ['relay.*.energy', 'W.min'],
  ['emeter.*.power', 'W'],
  ['emeter.*.voltage', 'V'],
  ['emeter.*.current', 'A'],
  ['emeter.*.total', 'Wh'],
  ['emeter.*.total_returned', 'Wh'],
])

/** sensor.temperature has none: °C or °F, by a setting of the device. */
const rules: FieldRules = { unitOf: (metric) => units.get(metric.replace(/\.\d+/, '.*')) }

function decode(input: CodecInput): Decoded {
  const readings = new ReadingList()
  const segments = input.context.topic.split('/').slice(1)
  if (segments.includes('command')) return readings
  const found = segments.findIndex((segment) => firstOfMetric.has(segment))
  const start = found < 0 ? 1 : found
  if (notTelemetry.has(segments[start] ?? '')) return readings
  const name = segments.slice(0, start).join('/')
  const device = start === 0 || segments.length === 0 ? transportDevice(input.context) : named(name)
  const metric = segments.slice(start).join('.') || 'value'
  if (metric === 'online') addPresence(readings, device, isFirstWord(input.text(), 'true', 'false'))
  else addTextReading(readings, input, device, metric, rules)
  return readings
}
