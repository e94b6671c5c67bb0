import { chirpstackCodec, isChirpstackEvent } from './chirpstack.ts'
import { cloudEventsCodec, isBinaryMode, isCloudEvent } from './cloudevents.ts'
import type { Codec } from './codec.ts'
import { codecByTopic } from './codec-by-topic.ts'
import type { CodecInput } from './codec-input.ts'
import { DecodeError } from './decode-error.ts'
import { cborCodec, msgpackCodec } from './encoded-document.ts'
import { fleetBodyOf, genericCodec, ownCodec } from './generic.ts'
import { influxLineCodec, isInfluxLine } from './influx-line.ts'
import { isObject } from './json.ts'
import { hasForeignCharset, mediaTypeOf } from './media-type.ts'
import { isOwnForm } from './own-form.ts'
import { quoted } from './quote.ts'
import { isSeedForm, seedCodec } from './seed.ts'
import { senmlCborCodec, senmlCodec } from './senml.ts'
import { isTheThingsStackEvent, theThingsStackCodec } from './the-things-stack.ts'

/** Types that name their format, over MQTT 5 as well. */
const codecByType = new Map<string, Codec>([
  ['application/senml+json', senmlCodec],
  ['application/senml+cbor', senmlCborCodec],
  ['application/cloudevents+json', cloudEventsCodec],
  ['application/cloudevents-batch+json', cloudEventsCodec],
  ['application/msgpack', msgpackCodec],
  ['application/cbor', cborCodec],
])

/** What an HTTP body may be declared as when nothing else says its format. */
const genericTypes = new Set(['application/json', 'application/x-ndjson', 'text/plain', ''])

/**
 * Which rules a message falls under, the first that fit: its topic or path and headers, then its content type, then the shape of its JSON.
 * @throws {DecodeError} when no rules take it, or when it must be JSON and is not
 */
export function chooseCodec(input: CodecInput): Codec {
  const { transport, contentType } = input.context
  if (transport === 'http' && hasForeignCharset(contentType))
    throw new DecodeError('unsupported', `content type ${quoted(contentType ?? '')}: text must be UTF-8`)
  if (isBinaryMode(input.context)) return cloudEventsCodec
  const byTopic = codecByTopic(input)
  if (byTopic !== undefined) return byTopic
  if (isInfluxLine(input.context)) return influxLineCodec
  const type = mediaTypeOf(contentType)
  const byType = type === undefined ? undefined : codecByType.get(type)
  if (byType !== undefined) return byType
  if (transport === 'http' && !genericTypes.has(type ?? '')) return chooseUndeclared(input)
  return input.isDocument() ? chooseByShape(input) : genericCodec
}

function chooseByShape(input: CodecInput): Codec {
  const first = firstObject(input)
  const byShape = codecByShape(first)
  if (byShape !== undefined) return byShape
  return isObject(first) && isOwnForm(first) ? ownCodec : genericCodec
}

/** Forms whose keys give them away. */
function codecByShape(first: unknown): Codec | undefined {
  if (isCloudEvent(first)) return cloudEventsCodec
  if (isSeedForm(first)) return seedCodec
  if (isTheThingsStackEvent(first)) return theThingsStackCodec
  return isChirpstackEvent(first) ? chirpstackCodec : undefined
}

/** A form that is known by its shape needs no content type: the earlier engine's clients may well declare another. */
function chooseUndeclared(input: CodecInput): Codec {
  try {
    const byShape = input.isDocument() ? codecByShape(firstObject(input)) : undefined
    if (byShape !== undefined) return byShape
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error
  }
  throw new DecodeError('unsupported', `content type ${quoted(input.context.contentType ?? '')} is not one of ours`)
}

/** The object, or the first element of an array; of a fleet body the first device's. */
function firstObject(input: CodecInput): unknown {
  const document = input.json()
  const fleet = fleetBodyOf(input.context, document)
  if (fleet !== undefined) for (const device in fleet) return (fleet[device] as unknown[])[0]
  return Array.isArray(document) ? document[0] : document
}
