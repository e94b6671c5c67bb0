import type { Codec, Decoded } from './codec.ts'
import type { CodecContext, CodecInput } from './codec-input.ts'
import { DecodeError } from './decode-error.ts'
import { flattenMembers } from './flatten.ts'
import { isObject } from './json.ts'
import { ReadingList } from './reading-list.ts'
import { timeOfMilliseconds } from './time.ts'
import { named, pathOf, transportDevice } from './topic-device.ts'

/** Devices and gateways that speak to ThingsBoard: `{…}`, `{ "ts", "values": {…} }`, arrays of these, and per device behind a gateway. */
export const thingsboardCodec: Codec = { name: 'thingsboard', decode }

const deviceTopics = 'v1/devices/me'
const gatewayTopics = 'v1/gateway'
const httpPath = /^\/api\/v1\/[^/]+\/telemetry$/

export function isThingsboard({ transport, topic }: CodecContext): boolean {
  return transport === 'http'
    ? httpPath.test(pathOf(topic))
    : isBelow(topic, deviceTopics) || isBelow(topic, gatewayTopics)
}

function isBelow(topic: string, parent: string): boolean {
  return topic.startsWith(parent) && (topic.length === parent.length || topic.charAt(parent.length) === '/')
}

function decode(input: CodecInput): Decoded {
  const { transport, topic } = input.context
  const readings = new ReadingList()
  if (topic === `${gatewayTopics}/telemetry`) decodeGateway(readings, input)
  // Attributes, remote calls, claims and the like are no telemetry.
  else if (transport === 'http' || topic === `${deviceTopics}/telemetry`) {
    const document = documentOf(input)
    const device = input.context.device ?? transportDevice(input.context)
    if (Array.isArray(document)) decodeArray(readings, device, document)
    else decodeElement(readings, device, document)
  }
  return readings
}

function decodeGateway(readings: ReadingList, input: CodecInput): void {
  const document = documentOf(input)
  if (!isObject(document)) throw new DecodeError('malformed', 'a gateway sends {"device": [ … ]}')
  for (const device in document) {
    const elements = document[device]
    if (!Array.isArray(elements)) throw new DecodeError('malformed', 'a gateway sends an array for each device')
    decodeArray(readings, named(device), elements)
  }
}

function documentOf(input: CodecInput): unknown {
  if (!input.isDocument()) throw new DecodeError('malformed', 'neither an object nor an array')
  return input.json()
}

function decodeArray(readings: ReadingList, device: string, elements: unknown[]): void {
  for (const element of elements) {
    decodeElement(readings, device, element)
    readings.element++
  }
}

function decodeElement(readings: ReadingList, device: string, element: unknown): void {
  if (!isObject(element)) throw new DecodeError('malformed', 'an element of an array must be an object')
  const { values, ts } = element
  if (isObject(values)) flattenMembers(readings, device, values, timeOfMilliseconds(ts))
  else flattenMembers(readings, device, element, undefined)
}
