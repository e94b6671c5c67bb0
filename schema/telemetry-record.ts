import { recordKey } from './kafka-topics.ts'
import type { Reading, TelemetryEvent } from './telemetry-event.ts'

/** A record as the event log takes it. */
export interface EncodedRecord {
  readonly key: string
  /** Null: a dead letter whose bytes the log refused. */
  readonly value: string | Buffer | null
  readonly headers: Readonly<Record<string, string>>
  /** Milliseconds since the epoch, of the arrival: by event time, retention would delete backfilled readings at once. */
  readonly timestampMs: number
}

export const telemetrySchema = 'fleetbridge.telemetry.v1'

const telemetryHeaders = Object.freeze({ 'content-type': 'application/json', schema: telemetrySchema })

export function encodeTelemetry(event: TelemetryEvent): EncodedRecord {
  return {
    key: recordKey(event.tenant, event.device),
    value: JSON.stringify(event),
    headers: telemetryHeaders,
    // A replayed message arrived long ago: by that time the log might drop it before anyone has read it.
    timestampMs: event.replayOf === undefined ? Math.floor(event.ingestTimeUs / 1000) : Date.now(),
  }
}

/** Upper bounds of what Postgres' tables and indexes take; the gateway's own are the same or lower. */
export const recordLimits = {
  deviceBytes: 128,
  metricBytes: 256,
  unitBytes: 64,
  textBytes: 16_384,
  readings: 1000,
} as const

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
const tenantName = /^[a-z0-9-]{1,63}$/

/** The fault of a record whose `v` this version does not read. Nothing is wrong with it: who comes later can. */
export const newerRecord = 'v is above 1: a newer version wrote it; upgrade the workers'

/**
 * Reads a record of the telemetry topic, by whomever it was written. Fields that are not known are left alone.
 * @returns the event, or what is wrong with the record
 */
export function decodeTelemetry(key: Buffer | null, value: Buffer | null): TelemetryEvent | string {
  if (value === null) return 'the record has no value'
  let parsed: unknown
  try {
    parsed = JSON.parse(value.toString())
  } catch {
    return 'the value is not JSON'
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return 'the value is not an object'
  const event = parsed as Record<keyof TelemetryEvent, unknown>
  return faultOfEvent(event, key) ?? (parsed as TelemetryEvent)
}

function faultOfEvent(event: Record<keyof TelemetryEvent, unknown>, key: Buffer | null): string | undefined {
  const { v, id, tenant, device, gateway, source, codec, ingestTimeUs, readings } = event
  if (v !== 1) return Number.isSafeInteger(v) && (v as number) > 1 ? newerRecord : 'v is not 1'
  if (typeof id !== 'string' || !uuid.test(id)) return 'id is not a UUID'
  if (typeof tenant !== 'string' || !tenantName.test(tenant)) return 'tenant is not a tenant name'
  if (!isText(device, recordLimits.deviceBytes)) return 'device is not a device id'
  if (key === null || key.toString() !== recordKey(tenant, device)) return 'the key is not tenant/device'
  if (gateway !== undefined && !isText(gateway, recordLimits.deviceBytes)) return 'gateway is not a device id'
  const fault = faultOfKeys(event)
  if (fault !== undefined) return fault
  if (source !== 'mqtt' && source !== 'http') return 'source is neither mqtt nor http'
  if (!isText(codec, recordLimits.unitBytes)) return 'codec is not a name'
  if (!isTime(ingestTimeUs)) return 'ingestTimeUs is not a time'
  if (!Array.isArray(readings) || readings.length === 0) return 'readings is not a list, or empty'
  if (readings.length > recordLimits.readings) return `there are more than ${recordLimits.readings} readings`
  for (let index = 0; index < readings.length; index++) {
    const faultOfOne = faultOfReading(readings[index])
    if (faultOfOne !== undefined) return `reading ${index}: ${faultOfOne}`
  }
  return undefined
}

function faultOfKeys(event: Record<keyof TelemetryEvent, unknown>): string | undefined {
  const { messageKey, identity, deliveryKey, resend, replayOf } = event
  if (messageKey !== undefined && !isText(messageKey, recordLimits.textBytes)) return 'messageKey is not a text'
  if (identity !== undefined && identity !== 'message') return 'identity is not "message"'
  if (deliveryKey !== undefined && !isText(deliveryKey, recordLimits.textBytes)) return 'deliveryKey is not a text'
  if (resend !== undefined && resend !== true) return 'resend is not true'
  if (replayOf !== undefined && (typeof replayOf !== 'string' || !uuid.test(replayOf))) return 'replayOf is not a UUID'
  return undefined
}

function faultOfReading(reading: unknown): string | undefined {
  if (typeof reading !== 'object' || reading === null) return 'it is not an object'
  const { metric, value, text, flag, unit, eventTimeUs, deviceTimeUs, clock } = reading as Record<
    keyof Reading,
    unknown
  >
  if (!isText(metric, recordLimits.metricBytes)) return 'metric is not a name'
  if (value !== undefined) {
    if (typeof value !== 'number' || !Number.isFinite(value)) return 'value is not a finite number'
    if (text !== undefined || flag !== undefined) return 'it has more than one of value, text and flag'
  } else if (text !== undefined) {
    if (!isWord(text, recordLimits.textBytes)) return 'text is not a text'
    if (flag !== undefined) return 'it has more than one of value, text and flag'
  } else if (typeof flag !== 'boolean') return 'it has none of value, text and flag'
  if (unit !== undefined && !isText(unit, recordLimits.unitBytes)) return 'unit is not a name'
  if (!isTime(eventTimeUs)) return 'eventTimeUs is not a time'
  if (deviceTimeUs !== undefined && !isTime(deviceTimeUs)) return 'deviceTimeUs is not a time'
  if (clock !== undefined && clock !== 1 && clock !== 2) return 'clock is neither 1 nor 2'
  return undefined
}

const isTime = (value: unknown): value is number => Number.isSafeInteger(value)

const isText = (value: unknown, maxBytes: number): value is string => isWord(value, maxBytes) && value !== ''

/** U+0000 fails the whole batch in Postgres, and a lone surrogate would be stored as something else. Most texts are too short to need counting. */
function isWord(value: unknown, maxBytes: number): value is string {
  if (typeof value !== 'string' || value.length > maxBytes) return false
  if (value.length * 3 > maxBytes && Buffer.byteLength(value) > maxBytes) return false
  return value.isWellFormed() && !value.includes('\0')
}
