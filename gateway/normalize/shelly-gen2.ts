import type { Codec, Decoded } from './codec.ts'
import type { CodecInput } from './codec-input.ts'
import { type FieldRules, flattenFields } from './flatten-fields.ts'
import { isObject } from './json.ts'
import { ReadingList } from './reading-list.ts'
import { addPresence, asObject, isFirstWord, objectOf } from './text-reading.ts'
import { timeOfUnit } from './time.ts'
import { named } from './topic-device.ts'

/** Shelly since its second generation: notifications on `DEVICE/events/rpc`, the state of a component on `DEVICE/status/switch:0`. */
export const shellyGen2Codec: Codec = { name: 'shelly-gen2', decode }

const gen1Prefix = 'shellies/'
const notifications = '/events/rpc'
const presence = '/online'
const status = '/status/'
const component = /^(?:[^:]+:\d+|sys|wifi|mqtt|cloud|ble|ws)$/

const units = new Map([
  ['apower', 'W'],
  ['act_power', 'W'],
  ['aprt_power', 'VA'],
  ['voltage', 'V'],
  ['current', 'A'],
  ['freq', 'Hz'],
  ['tC', 'Cel'],
  ['tF', '[degF]'],
  ['rh', '%RH'],
  ['rssi', 'dBm'],
  ['uptime', 's'],
  ['aenergy.total', 'Wh'],
  ['ret_aenergy.total', 'Wh'],
  ['battery.V', 'V'],
  ['battery.percent', '%EL'],
])

const rules: FieldRules = {
  unitOf(_metric, path) {
    const key = path[path.length - 1] ?? ''
    return units.get(key) ?? units.get(`${path[path.length - 2]}.${key}`)
  },
  skips(path) {
    const key = path[path.length - 1]
    return key === 'by_minute' || key === 'minute_ts' || (key === 'id' && path.length === 2)
  },
}

export function isShellyGen2(topic: string): boolean {
  if (topic.endsWith(notifications)) return true
  if (topic.endsWith(presence)) return !topic.startsWith(gen1Prefix)
  const slash = topic.lastIndexOf('/')
  return endsBefore(topic, slash) && component.test(topic.slice(slash + 1))
}

function decode(input: CodecInput): Decoded {
  const readings = new ReadingList()
  const { topic } = input.context
  if (topic.endsWith(notifications)) decodeNotification(readings, input)
  else if (topic.endsWith(presence))
    addPresence(readings, deviceOf(topic, presence.length), isFirstWord(input.text(), 'true', 'false'))
  else {
    const name = topic.slice(topic.lastIndexOf('/') + 1)
    const device = deviceOf(topic, status.length + name.length)
    flattenFields(readings, device, name, objectOf(input), undefined, rules)
  }
  return readings
}

function decodeNotification(readings: ReadingList, input: CodecInput): void {
  const { method, params } = objectOf(input)
  if (method !== 'NotifyStatus' && method !== 'NotifyFullStatus') return
  const components = asObject(params, 'params')
  const device = deviceOf(input.context.topic, notifications.length)
  const timeUs = timeOfUnit(components.ts, 1e6)
  for (const name in components)
    if (isObject(components[name])) flattenFields(readings, device, name, components[name], timeUs, rules)
}

/** Whether `/status/` ends there. */
function endsBefore(topic: string, slash: number): boolean {
  return slash >= status.length && topic.startsWith(status, slash + 1 - status.length)
}

function deviceOf(topic: string, suffixLength: number): string {
  const start = topic.startsWith(gen1Prefix) ? gen1Prefix.length : 0
  return named(topic.slice(start, Math.max(start, topic.length - suffixLength)))
}
