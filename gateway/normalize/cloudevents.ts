import type { Codec, Decoded } from './codec.ts'
import type { CodecContext, CodecInput } from './codec-input.ts'
import { DecodeError } from './decode-error.ts'
import { decodeDocument } from './generic.ts'
import { isObject, type JsonObject, parseJson, utf8Text } from './json.ts'
import { mediaTypeOf } from './media-type.ts'
import { quoted } from './quote.ts'
import { ReadingList } from './reading-list.ts'
import { decodeRecords } from './senml.ts'
import { asObject } from './text-reading.ts'
import { optionalTimeOf } from './time.ts'

/** CloudEvents 1.0: structured as JSON, one or a batch of them, and over HTTP in binary mode, where the attributes are headers. */
export const cloudEventsCodec: Codec = { name: 'cloudevents', decode }

export function isCloudEvent(value: unknown): boolean {
  return (
    isObject(value) &&
    typeof value.specversion === 'string' &&
    typeof value.type === 'string' &&
    typeof value.source === 'string'
  )
}

/** HTTP protocol binding §3.1: the header that only binary mode has. */
export function isBinaryMode({ transport, headers }: CodecContext): boolean {
  return transport === 'http' && headers?.has('ce-specversion') === true
}

function decode(input: CodecInput): Decoded {
  const { context } = input
  if (isBinaryMode(context)) return decodeBinary(input)
  if (!input.isDocument()) throw new DecodeError('malformed', 'an event must be a JSON object')
  const document = input.json()
  if (!Array.isArray(document)) return decodeEvent(context, asObject(document, 'an event'))
  if (document.length === 1) return decodeEvent(context, asObject(document[0], 'an event'))
  const readings = new ReadingList()
  for (const event of document) {
    for (const { device, metric, value, unit, timeUs } of decodeEvent(context, asObject(event, 'an event')).readings)
      readings.add(device, metric, value, unit, timeUs)
    readings.element++
  }
  return readings
}

/** What is asked for of the attributes (§3). */
interface Attributes {
  readonly device: string
  readonly timeUs: number | undefined
  /** Sources name their events, so the name is only theirs. */
  readonly messageKey: string | undefined
  readonly contentType: string | undefined
}

const maxKeyBytes = 256

function attributesOf(read: (name: string) => unknown, contentType: unknown): Attributes {
  const version = read('specversion')
  if (typeof version !== 'string') throw new DecodeError('malformed', 'specversion must be a text')
  if (version !== '1.0') throw new DecodeError('unsupported', `CloudEvents ${quoted(version)} is not 1.0`)
  const id = required(read, 'id')
  const source = required(read, 'source')
  required(read, 'type')
  const subject = read('subject') ?? undefined
  if (subject !== undefined && typeof subject !== 'string') throw new DecodeError('malformed', 'subject must be a text')
  if (contentType !== undefined && typeof contentType !== 'string')
    throw new DecodeError('malformed', 'datacontenttype must be a text')
  const key = `${source} ${id}`
  const isKey = Buffer.byteLength(key) <= maxKeyBytes && key.isWellFormed() && !key.includes('\0')
  return {
    device: subject || source,
    timeUs: optionalTimeOf(read('time')),
    messageKey: isKey ? key : undefined,
    contentType: mediaTypeOf(contentType),
  }
}

function required(read: (name: string) => unknown, name: string): string {
  const value = read(name)
  if (typeof value === 'string' && value !== '') return value
  throw new DecodeError('malformed', `an event needs ${name}, a text`)
}

function decodeEvent(context: CodecContext, event: JsonObject): Decoded {
  const attributes = attributesOf((name) => event[name], event.datacontenttype ?? undefined)
  const { data, data_base64: encoded } = event
  if (encoded === undefined || encoded === null) {
    if (data === undefined) return nothing
    return decodeData(context, attributes, () => data)
  }
  if (data !== undefined) throw new DecodeError('malformed', 'an event has either data or data_base64')
  // JSON format §3.1.1: without a type, bytes are just bytes.
  if (attributes.contentType === undefined) throw new DecodeError('unsupported', 'data_base64 needs a datacontenttype')
  const bytes = bytesOf(encoded)
  return bytes.length === 0 ? nothing : decodeData(context, attributes, () => parseJson(utf8Text(bytes)))
}

function decodeBinary(input: CodecInput): Decoded {
  const { context } = input
  const attributes = attributesOf((name) => headerOf(context, name), context.contentType)
  if (input.payload.length === 0) return nothing
  if (attributes.contentType === undefined)
    throw new DecodeError('unsupported', 'an event in binary mode needs a content type')
  return decodeData(context, attributes, () => input.json())
}

const nothing: Decoded = Object.freeze({ readings: [] })

function decodeData(context: CodecContext, attributes: Attributes, read: () => unknown): Decoded {
  const { device, timeUs, messageKey, contentType } = attributes
  const ofEvent = { ...context, device, arrayElement: false }
  if (contentType === 'application/senml+json') {
    const { readings } = decodeRecords(ofEvent, read())
    return {
      readings: readings.map((reading) => (reading.timeUs === undefined ? { ...reading, timeUs } : reading)),
      messageKey,
    }
  }
  if (contentType !== undefined && !isJson(contentType))
    throw new DecodeError('unsupported', `data of type ${quoted(contentType)} is not read`)
  return { readings: decodeDocument(ofEvent, read(), timeUs).readings, messageKey }
}

/** JSON format §3.1: the subtype is json, or ends in +json. */
function isJson(contentType: string): boolean {
  return contentType.endsWith('/json') || contentType.endsWith('+json')
}

/** HTTP protocol binding §3.1.3.2 */
function headerOf({ headers }: CodecContext, name: string): string | undefined {
  const value = headers?.get(`ce-${name}`)
  if (value?.includes('%') !== true) return value
  try {
    return decodeURIComponent(value)
  } catch {
    return value
  }
}

const base64 = /^[A-Za-z0-9+/]*={0,2}$/

function bytesOf(encoded: unknown): Buffer {
  if (typeof encoded !== 'string' || encoded.length % 4 !== 0 || !base64.test(encoded))
    throw new DecodeError('malformed', 'data_base64 must be base64')
  return Buffer.from(encoded, 'base64')
}
