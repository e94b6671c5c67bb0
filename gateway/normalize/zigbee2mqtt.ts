import type { Codec, Decoded } from './codec.ts'
import type { CodecContext, CodecInput } from './codec-input.ts'
import { type FieldRules, flattenFields } from './flatten-fields.ts'
import { ReadingList } from './reading-list.ts'
import { addPresence, addTextReading, isFirstWord, objectOf } from './text-reading.ts'
import { timeOfMillisecondsOrText } from './time.ts'
import { named, transportDevice } from './topic-device.ts'

/** Zigbee2MQTT: `zigbee2mqtt/NAME` with an object, or one topic an attribute; names may have slashes. */
export const zigbee2mqttCodec: Codec = { name: 'zigbee2mqtt', decode }

const units = new Map([
  ['temperature', 'Cel'],
  ['device_temperature', 'Cel'],
  ['local_temperature', 'Cel'],
  ['humidity', '%RH'],
  ['pressure', 'hPa'],
  ['battery', '%EL'],
  ['power', 'W'],
  ['energy', 'kWh'],
  ['current', 'A'],
  ['illuminance', 'lx'],
  ['illuminance_lux', 'lx'],
  ['co2', 'ppm'],
])

/** Voltage has none: it is in V or mV, by the model. */
const rules: FieldRules = {
  unitOf: (metric) => units.get(metric),
  // `device` describes the model, when the bridge is set to include it.
  skips: (path) => path.length === 1 && (path[0] === 'last_seen' || path[0] === 'device'),
}
const attributeRules: FieldRules = { unitOf: rules.unitOf }

function decode(input: CodecInput): Decoded {
  const readings = new ReadingList()
  const name = input.context.topic.split('/').slice(1)
  if (name[0] === 'bridge' || isRequest(name)) return readings
  if (name.length > 1 && name.at(-1) === 'availability')
    addPresence(readings, deviceOf(input.context, name.slice(0, -1)), isOnline(input))
  else if (input.text().startsWith('{')) {
    const object = objectOf(input)
    const timeUs = timeOfMillisecondsOrText(object.last_seen)
    flattenFields(readings, deviceOf(input.context, name), undefined, object, timeUs, rules)
  } else {
    const metric = name.pop() ?? 'value'
    addTextReading(readings, input, deviceOf(input.context, name), metric, attributeRules)
  }
  return readings
}

/** What others ask of a device: `NAME/set`, `NAME/set/state`, `NAME/get`. */
function isRequest(name: readonly string[]): boolean {
  return name.some((segment, at) => at > 0 && (segment === 'set' || segment === 'get'))
}

function deviceOf(context: CodecContext, name: readonly string[]): string {
  return name.length === 0 ? transportDevice(context) : named(name.join('/'))
}

function isOnline(input: CodecInput): boolean {
  const state = input.text().startsWith('{') ? objectOf(input).state : input.text()
  return isFirstWord(typeof state === 'string' ? state : '', 'online', 'offline')
}
