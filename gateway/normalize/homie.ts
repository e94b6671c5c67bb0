import type { Codec, Decoded } from './codec.ts'
import type { CodecInput } from './codec-input.ts'
import { DecodeError } from './decode-error.ts'
import { quoted } from './quote.ts'
import { ReadingList } from './reading-list.ts'
import { addPresence, addTextReading } from './text-reading.ts'
import { named } from './topic-device.ts'

/** Homie 3 to 5: `homie/5/DEVICE/NODE/PROPERTY`, before version 5 without the number. */
export const homieCodec: Codec = { name: 'homie', decode }

const presenceOf = new Map([
  ['init', true],
  ['ready', true],
  ['sleeping', true],
  ['alert', true],
  ['disconnected', false],
  ['lost', false],
])

function decode(input: CodecInput): Decoded {
  const readings = new ReadingList()
  const segments = input.context.topic.split('/')
  const isV5 = segments[1] === '5'
  const [device = '', node, property, ...rest] = segments.slice(isV5 ? 2 : 1)
  // What begins with $ describes; longer topics set or describe.
  if (node === undefined || device.startsWith('$') || rest.length > 0) return readings
  if (property === undefined) {
    if (node === '$state') addPresence(readings, named(device), isOnline(input.text()))
  } else if (!node.startsWith('$') && !property.startsWith('$')) {
    const metric = `${node}.${property}`
    // Homie 5, "Payload": MQTT cannot carry an empty retained text, so one zero byte stands for it.
    if (isV5 && input.payload.length === 1 && input.payload[0] === 0)
      readings.add(named(device), metric, '', undefined, undefined)
    else addTextReading(readings, input, named(device), metric)
  }
  return readings
}

function isOnline(state: string): boolean {
  const online = presenceOf.get(state)
  if (online === undefined) throw new DecodeError('bad_value', `${quoted(state)} is no state of a device`)
  return online
}
