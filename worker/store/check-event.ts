import type { Reading, TelemetryEvent } from '#schema/telemetry-event.ts'
import type { Refusal } from './message.ts'

const hourUs = 3_600_000_000
const dayUs = 24 * hourUs
/** Before this a clock counts as not set, so no reading is older, even when they are kept for ever. */
const earliestUs = Date.UTC(2000, 0) * 1000
const latestUs = Date.UTC(2100, 0) * 1000

/**
 * What the gateway's decoders guarantee, looked at again: a record may come from elsewhere, and a single one that is not so must not stop
 * the others. Times are judged from the arrival, not from now: what was taken in time stays welcome however long the worker was away.
 */
export function refusalOf(event: TelemetryEvent, retentionUs: number | undefined): Refusal | undefined {
  const fault = faultOf(event)
  if (fault !== undefined) return { code: 'row_refused', message: fault }
  const { ingestTimeUs, readings } = event
  // An hour more than the gateway's own check: the two may not read the same clock.
  const oldest = retentionUs === undefined ? earliestUs : Math.max(earliestUs, ingestTimeUs - retentionUs - hourUs)
  const newest = ingestTimeUs + dayUs
  for (let index = 0; index < readings.length; index++) {
    const { eventTimeUs } = readings[index] as Reading
    if (eventTimeUs < oldest) return { code: 'too_old', message: 'an event time is older than the retention' }
    if (eventTimeUs > newest)
      return { code: 'row_refused', message: 'an event time is more than a day after its arrival' }
  }
  return undefined
}

function faultOf(event: TelemetryEvent): string | undefined {
  const { tenant, device, ingestTimeUs, readings, gateway } = event
  if (!isText(tenant) || !isText(device) || (gateway !== undefined && !isText(gateway)))
    return 'tenant, device or gateway is not a text'
  if (!Number.isSafeInteger(ingestTimeUs) || ingestTimeUs < earliestUs || ingestTimeUs >= latestUs)
    return 'the ingest time is not one'
  if (!Array.isArray(readings) || readings.length === 0) return 'it holds no readings'
  for (let index = 0; index < readings.length; index++) {
    const fault = faultOfReading(readings[index] as Reading)
    if (fault !== undefined) return fault
  }
  return undefined
}

function faultOfReading(reading: Reading): string | undefined {
  if (typeof reading !== 'object' || reading === null) return 'a reading is not an object'
  const { metric, unit, value, text, flag, eventTimeUs, deviceTimeUs, clock } = reading
  if (!isText(metric) || (unit !== undefined && !isText(unit))) return 'a metric or unit is not a text'
  if (!Number.isSafeInteger(eventTimeUs)) return 'an event time is not whole microseconds'
  if (deviceTimeUs !== undefined && !Number.isSafeInteger(deviceTimeUs))
    return 'a device time is not whole microseconds'
  if (clock !== undefined && clock !== 1 && clock !== 2) return 'a clock is neither 1 nor 2'
  if (value !== undefined)
    return text === undefined && flag === undefined && Number.isFinite(value) ? undefined : notOneValue
  if (text !== undefined)
    return flag === undefined && typeof text === 'string' && text.isWellFormed() ? undefined : notOneValue
  return typeof flag === 'boolean' ? undefined : notOneValue
}

const notOneValue = 'a reading does not hold one finite number, well-formed text or boolean'

/** Lone surrogates would be stored as U+FFFD, and two names become one. */
function isText(value: unknown): boolean {
  return typeof value === 'string' && value !== '' && value.isWellFormed()
}
