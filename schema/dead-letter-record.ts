import type { DeadLetter, DeadLetterContext } from './dead-letter.ts'
import { recordKey } from './kafka-topics.ts'
import { reasonCodes } from './reason-code.ts'
import type { TelemetryEvent } from './telemetry-event.ts'
import type { EncodedRecord } from './telemetry-record.ts'

/** Value: the message's own bytes; what we know of it goes into headers, so that the bytes stay as they were. */
export function encodeDeadLetter(letter: DeadLetter): EncodedRecord {
  return {
    key: recordKey(letter.tenant, letter.device),
    value: letter.payload,
    headers: {
      id: letter.id,
      tenant: letter.tenant,
      device: letter.device,
      source: letter.source,
      topic: letter.topic,
      ...(letter.contentType !== undefined && { 'content-type': letter.contentType }),
      stage: letter.stage,
      code: letter.code,
      message: letter.message,
      acknowledged: String(letter.acknowledged),
      'ingest-time-us': String(letter.ingestTimeUs),
      ...(letter.context !== undefined && { context: JSON.stringify(letter.context) }),
    },
    timestampMs: Math.floor(letter.ingestTimeUs / 1000),
  }
}

export type RecordHeaders = Readonly<Record<string, unknown>>

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

/**
 * Reads a record of the dead letter topic.
 * @returns the dead letter, or what is wrong with the record
 */
export function decodeDeadLetter(headers: RecordHeaders, value: Buffer | null): DeadLetter | string {
  const text = (name: string) => storable(headers[name])
  const id = text('id')
  const source = text('source')
  const stage = text('stage')
  const contentType = text('content-type')
  const code = reasonCodes.find((known) => known === text('code'))
  const ingestTimeUs = Number(text('ingest-time-us'))
  if (id === undefined || !uuid.test(id)) return 'header id is not a UUID'
  if (source !== 'mqtt' && source !== 'http') return 'header source is neither mqtt nor http'
  if (stage !== 'decode' && stage !== 'store') return 'header stage is neither decode nor store'
  if (code === undefined) return 'header code is not a known code'
  if (!Number.isSafeInteger(ingestTimeUs) || ingestTimeUs <= 0) return 'header ingest-time-us is not a time'
  const context = contextIn(text('context'))
  return {
    id,
    tenant: text('tenant') ?? '',
    device: text('device') ?? '',
    source,
    topic: text('topic') ?? '',
    ...(contentType !== undefined && { contentType }),
    stage,
    code,
    message: text('message') ?? '',
    acknowledged: text('acknowledged') === 'true',
    ingestTimeUs,
    payload: value,
    ...(context !== undefined && { context }),
  }
}

/** Other writers may say anything there; the dead letter is kept whatever it is. */
function contextIn(text: string | undefined): DeadLetterContext | undefined {
  if (text === undefined || text.length > maxContextLength) return undefined
  try {
    const context: unknown = JSON.parse(text)
    return typeof context === 'object' && context !== null && !Array.isArray(context) ? context : undefined
  } catch {
    return undefined
  }
}

/** An event that the log refuses even alone: parked without its bytes, or its neighbours would wait behind it for ever. */
export function refusedRecord(event: TelemetryEvent, why: string): DeadLetter {
  const { id, tenant, device, source, ingestTimeUs } = event
  return {
    id,
    tenant,
    device,
    source,
    topic: '',
    stage: 'store',
    code: 'record_refused',
    message: `the event log refused the record: ${why}`,
    acknowledged: true,
    ingestTimeUs,
    payload: null,
  }
}

/** A record that is not what its topic holds: kept with its bytes, under the names in its key as far as they can be read. */
export function malformedRecord(record: {
  readonly id: string
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly timestampMs: number
  readonly where: string
  readonly why: string
  /** `unsupported`: it may well be what a newer version wrote. */
  readonly code?: 'malformed' | 'unsupported'
}): DeadLetter {
  const key = storable(record.key) ?? ''
  const slash = key.indexOf('/')
  return {
    id: record.id,
    tenant: key.slice(0, Math.max(0, slash)).slice(0, maxNameLength),
    device: key.slice(slash + 1).slice(0, maxNameLength),
    source: 'mqtt',
    topic: '',
    stage: 'store',
    code: record.code ?? 'malformed',
    message: `${record.where}: ${record.why}`,
    acknowledged: true,
    ingestTimeUs: record.timestampMs * 1000,
    payload: record.value,
  }
}

const maxNameLength = 256
const maxContextLength = 65_536

/** kafkajs gives headers as bytes, an array where one is repeated. Postgres takes no U+0000. */
function storable(bytes: unknown): string | undefined {
  const first: unknown = Array.isArray(bytes) ? bytes[0] : bytes
  if (first === undefined || first === null) return undefined
  return String(first).replaceAll('\0', '\u{fffd}')
}
