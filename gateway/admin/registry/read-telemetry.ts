import type { Client } from './change.ts'
import { noDevice } from './device-lock.ts'
import { checkDeviceId, checkTenantName } from './names.ts'
import { cursorOf, cursorText, numberOf, type Page, pageOf } from './page.ts'
import { missing } from './refusal.ts'
import { microTime } from './times.ts'

/** A value of a metric: exactly one of value, text, flag is not null. */
export interface ReadingRow {
  readonly time: string
  readonly unit: string | null
  readonly value: number | null
  readonly text: string | null
  readonly flag: boolean | null
  /** 0 the device's clock; 1 it gave no time; 2 it was far ahead: then the time is the arrival's. */
  readonly clock: number
  readonly ingestTime: string
}

export interface LatestRow extends ReadingRow {
  readonly device: string
  readonly metric: string
}

export interface LatestFilter {
  readonly tenant: string
  readonly device?: string | undefined
  /** Devices whose ids begin so. */
  readonly prefix?: string | undefined
  readonly metric?: string | undefined
  readonly limit: number
  readonly after?: string | undefined
}

/** The newest reading of each metric, by device and metric. */
export async function latestReadings(
  client: Client,
  { tenant, device, prefix, metric, limit, after }: LatestFilter,
): Promise<Page<LatestRow>> {
  checkTenantName(tenant)
  if (device !== undefined) await deviceNumber(client, tenant, device)
  const cursor = after === undefined ? undefined : cursorOf(after, 2)
  const { rows } = await client.query<LatestRow & { deviceId: number; metricId: number; key: string }>(
    // Devices in the order of their ids, each with its metrics: both by an index, and no further than the page.
    `SELECT d.external_id AS device, m.name AS metric, m.unit, ${microTime('l.event_time')} AS time, l.value, l.text, l.flag, l.clock,
       ${microTime('l.ingest_time')} AS "ingestTime", l.metric_id AS "metricId"
     FROM device d JOIN tenant t ON t.id = d.tenant_id AND t.name = $1
     CROSS JOIN LATERAL (SELECT * FROM latest WHERE latest.device_id = d.id ORDER BY latest.metric_id) l
     JOIN metric m ON m.id = l.metric_id
     WHERE ($2::text IS NULL OR d.external_id = $2) AND ($3::text IS NULL OR starts_with(d.external_id, $3))
       AND ($4::text IS NULL OR m.name = $4) AND d.status <> 'removed'
       AND ($5::text IS NULL OR (d.external_id >= $5 AND (d.external_id, l.metric_id) > ($5, $6::int)))
     ORDER BY d.external_id, l.metric_id LIMIT $7`,
    [tenant, device ?? null, prefix ?? null, metric ?? null, cursor?.[0] ?? null, numberOf(cursor?.[1]), limit + 1],
  )
  return pageOf(rows, limit, (row) => cursorText([row.device, row.metricId]))
}

export interface ReadingFilter {
  readonly tenant: string
  readonly device: string
  readonly metric: string
  /** Absent: of any unit. */
  readonly unit?: string | undefined
  readonly from: Date
  /** Exclusive. */
  readonly to: Date
}

/** What was stored of one metric, the oldest first. */
export async function listReadings(
  client: Client,
  filter: ReadingFilter,
  { limit, after }: { readonly limit: number; readonly after?: string | undefined },
): Promise<Page<ReadingRow>> {
  const { deviceId, metricIds } = await seriesOf(client, filter)
  const cursor = after === undefined ? undefined : cursorOf(after, 3).map(numberOf)
  // Each metric (the units of one name) by its own stretch of the primary key, then the few that are first.
  const { rows } = await client.query<ReadingRow & { us: number; metricId: number; ordinal: number }>(
    `SELECT ${microTime('r.event_time')} AS time, m.unit, r.value, r.text, r.flag, r.clock, ${microTime('r.ingest_time')} AS "ingestTime",
       (extract(epoch FROM r.event_time) * 1000000)::float8 AS us, r.metric_id AS "metricId", r.ordinal
     FROM unnest($2::int[]) AS wanted (id) CROSS JOIN LATERAL (
       SELECT * FROM reading
       WHERE device_id = $1 AND metric_id = wanted.id AND event_time >= $3 AND event_time < $4
         AND ($5::float8 IS NULL OR (event_time >= timestamptz 'epoch' + $5 * interval '1 microsecond'
           AND (event_time, metric_id, ordinal) > (timestamptz 'epoch' + $5 * interval '1 microsecond', $6::int, $7::int)))
       ORDER BY event_time, ordinal LIMIT $8
     ) r JOIN metric m ON m.id = r.metric_id
     ORDER BY r.event_time, r.metric_id, r.ordinal LIMIT $8`,
    [
      deviceId,
      metricIds,
      filter.from,
      filter.to,
      cursor?.[0] ?? null,
      cursor?.[1] ?? null,
      cursor?.[2] ?? null,
      limit + 1,
    ],
  )
  return pageOf(rows, limit, (row) => cursorText([row.us, row.metricId, row.ordinal]))
}

export interface ReadingsExport {
  readonly tenant: string
  readonly device?: string | undefined
  readonly prefix?: string | undefined
  readonly metric?: string | undefined
  readonly from: Date
  /** Exclusive. */
  readonly to: Date
}

/** Readings with the names of what they are of, in no order that is promised. */
export function readingsExport({ tenant, device, prefix, metric, from, to }: ReadingsExport) {
  return {
    columns: ['time', 'device', 'metric', 'unit', 'value', 'text', 'flag', 'clock', 'ingest_time'],
    sql: `SELECT ${microTime('r.event_time')} AS time, d.external_id AS device, m.name AS metric, m.unit, r.value, r.text, r.flag, r.clock,
       ${microTime('r.ingest_time')} AS ingest_time
     FROM reading r JOIN device d ON d.id = r.device_id JOIN metric m ON m.id = r.metric_id JOIN tenant t ON t.id = d.tenant_id
     WHERE t.name = $1 AND r.event_time >= $2 AND r.event_time < $3 AND ($4::text IS NULL OR d.external_id = $4)
       AND ($5::text IS NULL OR starts_with(d.external_id, $5)) AND ($6::text IS NULL OR m.name = $6)`,
    values: [tenant, from, to, device ?? null, prefix ?? null, metric ?? null],
  }
}

/** The numbers of a device and of a metric's units. @throws BridgeError BRIDGE_USAGE when there is no such device or metric */
export async function seriesOf(
  client: Client,
  { tenant, device, metric, unit }: Pick<ReadingFilter, 'tenant' | 'device' | 'metric' | 'unit'>,
): Promise<{ deviceId: number; tenantId: number; metricIds: number[] }> {
  checkTenantName(tenant)
  const { deviceId, tenantId } = await deviceNumber(client, tenant, device)
  const { rows } = await client.query<{ id: number }>(
    'SELECT id FROM metric WHERE tenant_id = $1 AND name = $2 AND ($3::text IS NULL OR unit = $3) ORDER BY id',
    [tenantId, metric, unit ?? null],
  )
  if (rows.length === 0)
    throw missing(
      `the tenant ${tenant} has no metric ${JSON.stringify(metric.slice(0, 100))}${unit === undefined ? '' : ` in ${JSON.stringify(unit.slice(0, 64))}`}`,
    )
  return { deviceId, tenantId, metricIds: rows.map(({ id }) => id) }
}

/** @throws BridgeError BRIDGE_USAGE when there is no such device */
export async function deviceNumber(
  client: Client,
  tenant: string,
  device: string,
): Promise<{ deviceId: number; tenantId: number }> {
  checkDeviceId(device)
  const { rows } = await client.query<{ deviceId: number; tenantId: number }>(
    `SELECT device.id AS "deviceId", tenant.id AS "tenantId" FROM device JOIN tenant ON tenant.id = device.tenant_id
     WHERE tenant.name = $1 AND external_id = $2`,
    [tenant, device],
  )
  if (rows[0] === undefined) throw noDevice(tenant, device)
  return rows[0]
}

export interface StatusFilter {
  readonly tenant: string
  readonly prefix?: string | undefined
  /** Only those that were last heard before it, or never. */
  readonly silentSince?: Date | undefined
  readonly limit: number
  readonly after?: string | undefined
}

/** Devices as the view `device_status` shows them, with its columns in camel case. */
export async function deviceStatuses(
  client: Client,
  { tenant, prefix, silentSince, limit, after }: StatusFilter,
): Promise<Page<Record<string, unknown>>> {
  checkTenantName(tenant)
  const { rows } = await client.query<Record<string, unknown>>(
    `SELECT * FROM device_status WHERE tenant = $1 AND status <> 'removed'
       AND ($2::text IS NULL OR device > $2) AND ($3::text IS NULL OR starts_with(device, $3))
       AND ($4::timestamptz IS NULL OR last_ingest_time IS NULL OR last_ingest_time < $4)
     ORDER BY device LIMIT $5`,
    [tenant, after ?? null, prefix ?? null, silentSince ?? null, limit + 1],
  )
  const shown = rows.map((row) =>
    Object.fromEntries(
      Object.entries(row).map(([name, value]) => [
        name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()),
        // Counts are int8, which the driver leaves a text.
        name === 'metrics' ? Number(value) : value instanceof Date ? value.toISOString() : value,
      ]),
    ),
  )
  return pageOf(shown, limit, ({ device }) => String(device))
}
