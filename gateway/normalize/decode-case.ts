import { isDeepStrictEqual } from 'node:util'
import type { DecodeCode } from '#schema/reason-code.ts'
import type { Source } from '#schema/telemetry-event.ts'
import type { Routes } from '../routes/route-table.ts'
import type { RawReading } from './codec.ts'
import { CodecInput } from './codec-input.ts'
import { DecodeError } from './decode-error.ts'
import { decodeMessage } from './decode-message.ts'
import { EdgeNodes } from './edge-nodes.ts'

/** One message and what it means: the form of the files in cases/. Ids and sources say where it was seen. */
export interface DecodeCase extends CaseMessage {
  readonly id: string
  readonly transport: Source
  readonly content_type?: string
  readonly headers?: Readonly<Record<string, string>>
  /** The authenticated device. */
  readonly client_id?: string
  /** Arrival time, where the result depends on it. */
  readonly received_at?: string
  /** Earlier messages of the same session, whose readings are not compared. */
  readonly before?: readonly CaseMessage[]
  readonly expect: CaseResult
}

export interface CaseMessage {
  readonly topic?: string
  readonly path?: string
  readonly payload_utf8?: string
  readonly payload_base64?: string
}

export type CaseResult = { readonly error: string } | { readonly readings: readonly CaseReading[] }

export interface CaseReading {
  readonly device: string
  readonly metric: string
  readonly value: number | string | boolean
  readonly unit: string | null
  /** ISO 8601 in UTC; null for the arrival time. */
  readonly ts: string | null
}

/** What a message is asked for. */
export interface MessageOptions {
  readonly transport: Source
  /** Topic name, or path with query. */
  readonly topic: string
  readonly contentType?: string | undefined
  readonly headers?: ReadonlyMap<string, string> | undefined
  readonly clientId?: string | undefined
  readonly arrivalUs?: number | undefined
  readonly edgeNodes?: EdgeNodes | undefined
  /** Absent: the default order decides alone. */
  readonly routes?: Routes | undefined
}

export interface Result {
  /** Undefined where it could not be told. */
  readonly codec: string | undefined
  readonly result: CaseResult
  /** Why, for people. */
  readonly message?: string
}

/** What the gateway makes of a message that a fleet credential sends which may speak for every device. */
export function resultOf(payload: Buffer, options: MessageOptions): Result {
  const { transport, topic, contentType, clientId } = options
  const route = options.routes?.find({ source: transport, topic, contentType, principal: { tenant: 'default' } })
  const input = new CodecInput(payload, {
    transport,
    topic,
    contentType,
    headers: options.headers,
    tenant: 'default',
    transportDevice: clientId,
    device: route?.deviceOf(clientId ?? ''),
    fleet: true,
    arrayElement: false,
    arrivalUs: options.arrivalUs ?? Date.now() * 1000,
    edgeNodes: options.edgeNodes ?? new EdgeNodes(),
    options: route?.rule.options,
  })
  try {
    const { codec, decoded } = decodeMessage(input, route)
    return { codec: codec.name, result: { readings: decoded.readings.map(readingOf) } }
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error
    const code: DecodeCode = error.code
    return { codec: undefined, result: { error: code }, message: error.message }
  }
}

/** Runs the messages of a case's session one after the other; the last one's result. */
export function runCase(example: DecodeCase, routes?: Routes): Result {
  const { transport, received_at: receivedAt } = example
  const options = {
    transport,
    contentType: example.content_type,
    headers: example.headers === undefined ? undefined : new Map(Object.entries(example.headers)),
    clientId: example.client_id,
    arrivalUs: receivedAt === undefined ? undefined : Date.parse(receivedAt) * 1000,
    edgeNodes: new EdgeNodes(),
    routes,
  }
  for (const message of example.before ?? []) resultOf(payloadOf(message), { ...options, topic: topicOf(message) })
  return resultOf(payloadOf(example), { ...options, topic: topicOf(example) })
}

/** Readings in any order, numbers as doubles. */
export function isExpected(result: CaseResult, expected: CaseResult): boolean {
  return isDeepStrictEqual(inOrder(result), inOrder(expected))
}

/** By device, metric, time (none first) and value. */
export function inOrder(result: CaseResult): CaseResult {
  if ('error' in result) return { error: result.error }
  // -0 is stored as 0.
  const readings = result.readings.map((reading) => (reading.value === 0 ? { ...reading, value: 0 } : reading))
  return { readings: readings.sort(byKey) }
}

function byKey(a: CaseReading, b: CaseReading): number {
  const [first, second] = [keyOf(a), keyOf(b)]
  for (let index = 0; index < first.length; index++) {
    const [left = '', right = ''] = [first[index], second[index]]
    if (left !== right) return left < right ? -1 : 1
  }
  return 0
}

function keyOf({ device, metric, ts, value }: CaseReading): string[] {
  return [device, metric, ts ?? '', JSON.stringify(value)]
}

export function topicOf({ topic, path }: CaseMessage): string {
  return topic ?? path ?? ''
}

export function payloadOf({ payload_base64: base64, payload_utf8: text }: CaseMessage): Buffer {
  return base64 === undefined ? Buffer.from(text ?? '') : Buffer.from(base64, 'base64')
}

function readingOf({ device, metric, value, unit, timeUs }: RawReading): CaseReading {
  return { device, metric, value, unit: unit ?? null, ts: timeUs === undefined ? null : iso(timeUs) }
}

/** Three fractional digits, or six when it is no whole millisecond. */
function iso(timeUs: number): string {
  const text = new Date(Math.floor(timeUs / 1000)).toISOString()
  const rest = timeUs % 1000
  return rest === 0 ? text : `${text.slice(0, -1)}${String(rest).padStart(3, '0')}Z`
}
