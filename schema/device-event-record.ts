import { type DeviceEventRecord, reportedKinds } from './device-event.ts'
import { recordKey } from './kafka-topics.ts'
import { type EncodedRecord, newerRecord, recordLimits } from './telemetry-record.ts'

export const deviceEventSchema = 'fleetbridge.device-event.v1'

const headers = Object.freeze({ 'content-type': 'application/json', schema: deviceEventSchema })
const clientBytes = 256
const gatewayBytes = 128
const maxDetails = 16
const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
const tenantName = /^[a-z0-9-]{1,63}$/
/** What Postgres' clock and ours agree on, and nobody's clock is right beyond. */
const [firstUs, lastUs] = [Date.UTC(2000, 0) * 1000, Date.UTC(2100, 0) * 1000]

export function encodeDeviceEvent(record: DeviceEventRecord): EncodedRecord {
  return {
    key: keyOf(record),
    value: JSON.stringify(record),
    headers,
    timestampMs: Math.floor(record.timeUs / 1000),
  }
}

/** No tenant's name holds a `$`. */
function keyOf(record: DeviceEventRecord): string {
  return record.kind === 'gateway' ? `$gateway/${record.gateway}` : recordKey(record.tenant, record.device)
}

/**
 * Reads a record of the device event topic, by whomever it was written. Fields that are not known are left alone.
 * @returns the record, or what is wrong with it
 */
export function decodeDeviceEvent(key: Buffer | null, value: Buffer | null): DeviceEventRecord | string {
  if (value === null) return 'the record has no value'
  let parsed: unknown
  try {
    parsed = JSON.parse(value.toString())
  } catch {
    return 'the value is not JSON'
  }
  const fault = isObject(parsed) ? faultOf(parsed) : 'the value is not an object'
  if (fault !== undefined) return fault
  const record = parsed as DeviceEventRecord
  return key !== null && key.toString() === keyOf(record) ? record : 'the key is not that of the value'
}

function faultOf(record: Record<string, unknown>): string | undefined {
  const { v, kind, timeUs } = record
  if (v !== 1) return Number.isSafeInteger(v) && (v as number) > 1 ? newerRecord : 'v is not 1'
  if (!isTime(timeUs)) return 'timeUs is not a time'
  if (kind === 'gateway') return faultOfInstance(record)
  if (!reportedKinds.some((known) => known === kind)) return 'kind is none that is known'
  const { id, tenant, device, session, details } = record
  if (typeof id !== 'string' || !uuid.test(id)) return 'id is not a UUID'
  if (typeof tenant !== 'string' || !tenantName.test(tenant)) return 'tenant is not a tenant name'
  if (!isText(device, recordLimits.deviceBytes)) return 'device is not a device id'
  if (details !== undefined && !areDetails(details)) return 'details is not a flat object of a few short values'
  if (kind === 'limited') return session === undefined ? undefined : 'a limit has no session'
  return isObject(session) ? faultOfSession(session) : 'session is not an object'
}

function faultOfSession(session: Record<string, unknown>): string | undefined {
  if (!isText(session.client, clientBytes)) return 'client is not a client id'
  if (!isCount(session.epoch)) return 'epoch is not a number that rises'
  if (!isTime(session.connectedUs)) return 'connectedUs is not a time'
  return faultOfInstance(session)
}

function faultOfInstance({ gateway, incarnation }: Record<string, unknown>): string | undefined {
  if (!isText(gateway, gatewayBytes)) return 'gateway is not a name'
  return isCount(incarnation) ? undefined : 'incarnation is not a number that rises'
}

function areDetails(details: unknown): boolean {
  if (!isObject(details)) return false
  const entries = Object.entries(details)
  return (
    entries.length <= maxDetails &&
    entries.every(
      ([name, value]) =>
        isText(name, recordLimits.unitBytes) &&
        (typeof value === 'boolean' || Number.isFinite(value) || value === '' || isText(value, clientBytes)),
    )
  )
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0
const isTime = (value: unknown): boolean => isCount(value) && (value as number) >= firstUs && (value as number) < lastUs

/** U+0000 fails the whole batch in Postgres, and a lone surrogate would be stored as something else. */
function isText(value: unknown, maxBytes: number): boolean {
  return (
    typeof value === 'string' &&
    value !== '' &&
    value.length <= maxBytes &&
    Buffer.byteLength(value) <= maxBytes &&
    value.isWellFormed() &&
    !value.includes('\0')
  )
}
