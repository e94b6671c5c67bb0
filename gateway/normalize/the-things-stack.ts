import type { Codec, Decoded } from './codec.ts'
import type { CodecInput } from './codec-input.ts'
import { isObject, type JsonObject } from './json.ts'
import { addPayload, deviceOfEvent, eventsOf } from './lorawan.ts'
import { ReadingList } from './reading-list.ts'
import { asObject } from './text-reading.ts'
import { optionalTimeOf } from './time.ts'

/** The Things Stack v3: uplinks on `v3/APPLICATION/devices/DEVICE/up`, or by a webhook. */
export const theThingsStackCodec: Codec = { name: 'tts', decode }

export function isTheThingsStackTopic(topic: string): boolean {
  if (!topic.startsWith('v3/')) return false
  const [, , devices, device] = topic.split('/', 4)
  return devices === 'devices' && device !== undefined
}

export function isTheThingsStackEvent(value: unknown): boolean {
  return isObject(value) && isObject(value.end_device_ids)
}

function decode(input: CodecInput): Decoded {
  const readings = new ReadingList()
  const { transport, topic } = input.context
  const isTheirs = transport === 'mqtt' && isTheThingsStackTopic(topic)
  const segments = isTheirs ? topic.split('/') : []
  // Joins, acknowledgements and the downlinks of others are no telemetry.
  if (isTheirs && (segments[4] !== 'up' || segments.length !== 5)) return readings
  for (const event of eventsOf(input, isTheirs)) {
    decodeEvent(readings, input, event, segments[3])
    readings.element++
  }
  return readings
}

function decodeEvent(readings: ReadingList, input: CodecInput, event: JsonObject, ofTopic: string | undefined): void {
  if (event.uplink_message === undefined || event.uplink_message === null) return
  const uplink = asObject(event.uplink_message, 'uplink_message')
  const ids = isObject(event.end_device_ids) ? event.end_device_ids : {}
  const device = deviceOfEvent(input, ids.device_id, ofTopic)
  const received = isGiven(uplink.received_at) ? uplink.received_at : event.received_at
  addPayload(readings, device, uplink.decoded_payload, uplink.frm_payload, 'frm_payload', optionalTimeOf(received))
}

function isGiven(time: unknown): boolean {
  return time !== undefined && time !== null && time !== ''
}
