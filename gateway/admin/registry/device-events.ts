import type { Client } from './change.ts'
import { checkTenantName } from './names.ts'
import { cursorOf, cursorText, numberOf, type Page, pageOf } from './page.ts'
import { deviceNumber } from './read-telemetry.ts'
import { invalid } from './refusal.ts'
import { microTime } from './times.ts'

export const deviceEventKinds = ['connected', 'disconnected', 'lost', 'silent', 'back', 'limited'] as const

export interface DeviceEventRow {
  /** The same in the webhook and in Kafka. */
  readonly id: string
  readonly time: string
  readonly device: string
  readonly kind: string
  readonly client: string | null
  readonly gateway: string | null
  readonly reason: string | null
  readonly epoch: number | null
  readonly details: Readonly<Record<string, unknown>>
}

export interface DeviceEventFilter {
  readonly tenant: string
  readonly device?: string | undefined
  /** Devices whose ids begin so. */
  readonly prefix?: string | undefined
  readonly kind?: string | undefined
  readonly from: Date
  /** Exclusive. */
  readonly to: Date
}

const conditions = `t.name = $1 AND e.time >= $2 AND e.time < $3 AND ($4::int IS NULL OR e.device_id = $4)
  AND ($5::text IS NULL OR starts_with(d.external_id, $5)) AND ($6::text IS NULL OR e.kind = $6)`
const tables = 'device_event e JOIN device d ON d.id = e.device_id JOIN tenant t ON t.id = d.tenant_id'
const named = `e.id, ${microTime('e.time')} AS time, d.external_id AS device, e.kind, e.details ->> 'client' AS client, e.details ->> 'gateway' AS gateway,
  e.details ->> 'reason' AS reason, e.epoch::float8 AS epoch, e.details`

/** What happened to devices, the newest first. @throws BridgeError BRIDGE_USAGE when there is no such device */
export async function listDeviceEvents(
  client: Client,
  filter: DeviceEventFilter,
  { limit, after }: { readonly limit: number; readonly after?: string | undefined },
): Promise<Page<DeviceEventRow>> {
  const values = await valuesOf(client, filter)
  const [us, id] = after === undefined ? [] : cursorOf(after, 2)
  if (id !== undefined && !/^[0-9a-f-]{36}$/.test(String(id)))
    throw invalid('`after` is not what `next` of another page was')
  const { rows } = await client.query<DeviceEventRow & { us: number }>(
    `SELECT ${named}, (extract(epoch FROM e.time) * 1000000)::float8 AS us FROM ${tables}
     WHERE ${conditions} AND ($7::float8 IS NULL OR (e.time, e.id) < (timestamptz 'epoch' + $7 * interval '1 microsecond', $8::uuid))
     ORDER BY e.time DESC, e.id DESC LIMIT $9`,
    [...values, numberOf(us), id ?? null, limit + 1],
  )
  return pageOf(rows, limit, (row) => cursorText([row.us, row.id]))
}

/** The same for an export, in no order that is promised. */
export async function deviceEventsExport(client: Client, filter: DeviceEventFilter) {
  return {
    columns: ['id', 'time', 'device', 'kind', 'client', 'gateway', 'reason', 'epoch', 'details'],
    sql: `SELECT ${named} FROM ${tables} WHERE ${conditions}`,
    values: await valuesOf(client, filter),
  }
}

async function valuesOf(
  client: Client,
  { tenant, device, prefix, kind, from, to }: DeviceEventFilter,
): Promise<unknown[]> {
  checkTenantName(tenant)
  const number = device === undefined ? undefined : (await deviceNumber(client, tenant, device)).deviceId
  return [tenant, from, to, number ?? null, prefix ?? null, kind ?? null]
}
