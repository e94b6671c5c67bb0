import type { Codec, Decoded } from './codec.ts'
import type { CodecInput } from './codec-input.ts'
import { ReadingList } from './reading-list.ts'
import { addPresence, addTextReading, isFirstWord } from './text-reading.ts'
import { named } from './topic-device.ts'

/** ESPHome: `PREFIX/COMPONENT/NAME/state`, one value a topic, and `PREFIX/status`. */
export const esphomeCodec: Codec = { name: 'esphome', decode }

const components = new Set(
  'sensor binary_sensor switch text_sensor number select text light fan cover climate lock valve button event'.split(
    ' ',
  ),
)
/** What they hold is text, though it may look like a number. */
const texts = new Set(['text_sensor', 'select', 'text'])
const status = '/status'

export function isEsphome(input: CodecInput): boolean {
  const { topic } = input.context
  if (topic.endsWith(status)) return input.text() === 'online' || input.text() === 'offline'
  if (!topic.endsWith('/state') && !topic.endsWith('/command')) return false
  const segments = topic.split('/')
  return segments.length > 3 && components.has(segments.at(-3) ?? '')
}

function decode(input: CodecInput): Decoded {
  const readings = new ReadingList()
  const { topic } = input.context
  if (topic.endsWith(status)) {
    const device = named(topic.slice(0, -status.length))
    addPresence(readings, device, isFirstWord(input.text(), 'online', 'offline'))
    return readings
  }
  if (topic.endsWith('/command')) return readings
  const segments = topic.split('/')
  const [component = '', name] = segments.slice(-3)
  const device = named(segments.slice(0, -3).join('/'))
  const metric = `${component}.${name}`
  if (!texts.has(component)) addTextReading(readings, input, device, metric)
  // Not even its white space is touched; asking for the text has shown that it is one, and not empty.
  else if (input.text() !== '') readings.add(device, metric, input.payload.toString(), undefined, undefined)
  return readings
}
