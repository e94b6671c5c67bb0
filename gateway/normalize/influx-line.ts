import type { Codec, Decoded, Scalar } from './codec.ts'
import type { CodecContext, CodecInput } from './codec-input.ts'
import { DecodeError } from './decode-error.ts'
import { fieldValue, timestampUs, unitOfPrecision } from './influx-value.ts'
import { quoted } from './quote.ts'
import { maxReadings, ReadingList } from './reading-list.ts'
import { named, pathOf, transportDevice } from './topic-device.ts'

/** InfluxDB's line protocol, as Telegraf, Home Assistant and many more write it: `measurement,tag=value field=1.5,other=2i 1700000000000000000`. */
export const influxLineCodec: Codec = { name: 'influx-line', decode }

const deviceTags = ['device_id', 'device', 'sensor_id', 'sensor', 'host']

export function isInfluxLine({ transport, topic }: CodecContext): boolean {
  if (transport === 'mqtt') return topic === 'telegraf' || topic.startsWith('telegraf/')
  const path = pathOf(topic)
  return path === '/write' || path === '/api/v2/write'
}

function decode(input: CodecInput): Decoded {
  const { options } = input.context
  const unit = unitOfPrecision(input.context)
  const readings = new ReadingList()
  const line = new LineReader(input.text())
  while (line.begin()) {
    const measurement = line.name(afterMeasurement, 'a measurement')
    const tags = tagsOf(line)
    const device = deviceOf(tags, input.context)
    const suffix = options?.tagsInNames === false ? '' : suffixOf(tags)
    const fields = fieldsOf(line)
    const timeUs = timestampUs(line.rest(), unit)
    for (const [field, value] of fields)
      readings.add(device, `${measurement}.${field}${suffix}`, value, undefined, timeUs)
    readings.element++ // lines without a time share none
  }
  return readings
}

/** A Map: `__proto__` is a tag like any other. */
function tagsOf(line: LineReader): Map<string, string> {
  const tags = new Map<string, string>()
  while (line.take(comma)) {
    const key = line.name(afterKey, 'a tag key')
    line.expect(equals, `"=" behind tag key ${quoted(key)}`)
    const value = line.name(afterTagValue, `the value of tag ${quoted(key)}`)
    if (tags.has(key)) throw new DecodeError('malformed', `tag ${quoted(key)} is there twice`)
    tags.set(key, value)
  }
  line.expect(space, 'a space and fields')
  line.skipSpaces()
  return tags
}

function fieldsOf(line: LineReader): [string, Scalar][] {
  const fields: [string, Scalar][] = []
  do {
    if (fields.length === maxReadings) throw new DecodeError('too_many_readings', `more than ${maxReadings} fields`)
    const key = line.name(afterKey, 'a field key')
    line.expect(equals, `"=" behind field key ${quoted(key)}`)
    fields.push([key, line.isAt(quote) ? line.string() : fieldValue(line.token())])
  } while (line.take(comma))
  return fields
}

/** Takes the device's tag out, so that its name is not in every metric as well. */
function deviceOf(tags: Map<string, string>, context: CodecContext): string {
  for (const tag of context.options?.deviceTags ?? deviceTags) {
    const device = tags.get(tag)
    if (device === undefined) continue
    tags.delete(tag)
    return named(device)
  }
  return context.device ?? transportDevice(context)
}

function suffixOf(tags: Map<string, string>): string {
  let suffix = ''
  for (const key of [...tags.keys()].sort()) suffix += `,${key}=${tags.get(key)}`
  return suffix
}

const lineFeed = 0x0a
const carriageReturn = 0x0d
const space = 0x20
const quote = 0x22
const hash = 0x23
const comma = 0x2c
const equals = 0x3d
const backslash = 0x5c

/** What ends a name unless a backslash stands before it, and so what a backslash may stand before. */
const afterMeasurement = [comma, space]
const afterKey = [comma, space, equals]
const afterTagValue = afterKey

/** Goes over a text once, from its start to its end. */
class LineReader {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  /** Goes to the next line that is neither blank nor a comment. @returns false at the end */
  begin(): boolean {
    for (;;) {
      while (this.isAt(space) || this.isAt(lineFeed) || this.isAt(carriageReturn)) this.#at++
      if (this.#at >= this.#text.length) return false
      if (!this.isAt(hash)) return true
      this.#at = this.#endOfLine()
    }
  }

  isAt(code: number): boolean {
    return this.#text.charCodeAt(this.#at) === code
  }

  take(code: number): boolean {
    if (!this.isAt(code)) return false
    this.#at++
    return true
  }

  expect(code: number, what: string): void {
    if (!this.take(code)) throw new DecodeError('malformed', `${what} is missing`)
  }

  skipSpaces(): void {
    while (this.isAt(space)) this.#at++
  }

  /** A measurement, key or tag value, its escapes resolved. A backslash before anything else is a backslash. */
  name(ends: readonly number[], what: string): string {
    const text = this.#text
    let name = ''
    let from = this.#at
    let at = from
    for (; at < text.length; at++) {
      const code = text.charCodeAt(at)
      if (code === lineFeed || ends.includes(code)) break
      if (code === backslash && ends.includes(text.charCodeAt(at + 1))) {
        name += text.slice(from, at)
        from = ++at
      }
    }
    this.#at = at
    name += text.slice(from, at)
    if (name === '') throw new DecodeError('malformed', `${what} is empty`)
    return name
  }

  /** A quoted text, which may go over several lines. */
  string(): string {
    const text = this.#text
    let value = ''
    let from = ++this.#at
    for (let at = from; at < text.length; at++) {
      const code = text.charCodeAt(at)
      if (code === quote) {
        this.#at = at + 1
        return value + text.slice(from, at)
      }
      if (code !== backslash) continue
      const next = text.charCodeAt(at + 1)
      if (next !== quote && next !== backslash) continue
      value += text.slice(from, at)
      from = ++at
    }
    throw new DecodeError('malformed', 'a text has no closing quotation mark')
  }

  /** Up to the next comma, space or end of the line. */
  token(): string {
    const from = this.#at
    const text = this.#text
    for (; this.#at < text.length; this.#at++) {
      const code = text.charCodeAt(this.#at)
      if (code === comma || code === space || code === lineFeed) break
    }
    const token = text.slice(from, this.#at)
    return token.endsWith('\r') ? token.slice(0, -1) : token
  }

  /** What stands behind the fields, without the spaces around it; '' when that is nothing. */
  rest(): string {
    const from = this.#at
    this.#at = this.#endOfLine()
    const rest = this.#text.slice(from, this.#at)
    const isApart = rest === '' || rest === '\r' || rest.startsWith(' ')
    if (!isApart) throw new DecodeError('malformed', 'behind the fields there is something that is no timestamp')
    return rest.trim()
  }

  #endOfLine(): number {
    const end = this.#text.indexOf('\n', this.#at)
    return end < 0 ? this.#text.length : end
  }
}
