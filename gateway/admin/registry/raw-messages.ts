import type { DeadLetterContext } from '#schema/dead-letter.ts'
import type { Reading, Source } from '#schema/telemetry-event.ts'
import { writeAudit } from './audit.ts'
import { type Change, type Client, inTransaction } from './change.ts'

/** A message whose bytes are kept, with the readings that it became. */
export interface KeptMessage {
  readonly deviceId: number
  readonly tenantId: number
  readonly eventId: string
  readonly ingestTimeUs: number
  readonly source: Source
  readonly topic: string
  readonly contentType: string | null
  readonly context: DeadLetterContext | null
  readonly payload: Buffer
  readonly readings: readonly Reading[]
}

export interface KeptFilter {
  readonly tenant: string
  readonly device: string
  /** Of the arrival. */
  readonly from: Date
  /** Exclusive. */
  readonly to: Date
}

const pageRows = 200

/** The oldest first, in pages. */
export async function* keptMessages(
  client: Client,
  { tenant, device, from, to }: KeptFilter,
): AsyncGenerator<readonly KeptMessage[]> {
  let after: KeptMessage | undefined
  for (;;) {
    const { rows } = await client.query<KeptMessage>(
      `SELECT r.device_id AS "deviceId", d.tenant_id AS "tenantId", r.event_id AS "eventId",
         (extract(epoch FROM r.ingest_time) * 1000000)::float8 AS "ingestTimeUs", r.source, r.topic, r.content_type AS "contentType", r.context,
         r.payload, r.readings
       FROM raw_message r JOIN device d ON d.id = r.device_id JOIN tenant t ON t.id = d.tenant_id
       WHERE t.name = $1 AND d.external_id = $2 AND r.ingest_time >= $3 AND r.ingest_time < $4
         AND ($5::float8 IS NULL OR (r.ingest_time, r.event_id) > (${instant('$5')}, $6::uuid))
       ORDER BY r.ingest_time, r.event_id LIMIT ${pageRows}`,
      [tenant, device, from, to, after?.ingestTimeUs ?? null, after?.eventId ?? null],
    )
    if (rows.length > 0) yield rows
    if (rows.length < pageRows) return
    after = rows.at(-1)
  }
}

/** Microseconds since the epoch as an instant, all of them. */
const instant = (us: string) => `(timestamptz 'epoch' + ${us}::float8 * interval '1 microsecond')`

export interface Replacement {
  readonly message: KeptMessage
  readonly removed: readonly Reading[]
  readonly added: readonly Reading[]
  /** What it is now, whole. */
  readonly readings: readonly Reading[]
}

/** One run, which the audit has as one entry. */
export interface RedecodeRun {
  readonly filter: KeptFilter
  auditId?: number
  messages: number
  removed: number
  added: number
}

/**
 * Takes a message's readings out and puts others in, with the newest values, the marks of the rollups and the audit, in one transaction.
 * @returns false when somebody else decoded it again meanwhile
 */
export async function replaceReadings(
  client: Client,
  by: Change,
  run: RedecodeRun,
  { message, removed, added, readings }: Replacement,
): Promise<boolean> {
  return await inTransaction(client, async () => {
    const { deviceId, tenantId, eventId, ingestTimeUs } = message
    const { rows } = await client.query(
      `SELECT FROM raw_message WHERE device_id = $1 AND event_id = $2 AND ingest_time = ${instant('$3')} AND readings = $4::jsonb FOR UPDATE`,
      [deviceId, eventId, ingestTimeUs, JSON.stringify(message.readings)],
    )
    if (rows.length === 0) return false
    const metrics = await metricNumbers(client, { tenantId, deviceId }, [...removed, ...added])
    const numberOf = ({ metric, unit }: Reading) => metrics.get(seriesKey(metric, unit)) as number
    const touched = [...new Set([...removed, ...added].map(numberOf))].sort((one, other) => one - other)
    // The worker's newer reading waits for us here, and is compared with what we leave.
    await client.query(
      'SELECT FROM latest WHERE device_id = $1 AND metric_id = ANY($2) ORDER BY metric_id FOR UPDATE',
      [deviceId, touched],
    )
    for (const reading of removed) await remove(client, deviceId, numberOf(reading), ingestTimeUs, reading)
    for (const reading of added) await add(client, deviceId, numberOf(reading), ingestTimeUs, reading)
    await renewLatest(client, deviceId, touched)
    await mark(
      client,
      deviceId,
      [...removed, ...added].map((reading) => [numberOf(reading), reading.eventTimeUs]),
    )
    await client.query(
      `UPDATE raw_message SET readings = $4, redecoded_at = clock_timestamp() WHERE device_id = $1 AND event_id = $2 AND ingest_time = ${instant('$3')}`,
      [deviceId, eventId, ingestTimeUs, JSON.stringify(readings)],
    )
    run.messages++
    run.removed += removed.length
    run.added += added.length
    await auditRun(client, by, run)
    return true
  })
}

const seriesKey = (metric: string, unit: string | undefined) => JSON.stringify([metric, unit ?? null])

async function metricNumbers(
  client: Client,
  { tenantId, deviceId }: { readonly tenantId: number; readonly deviceId: number },
  readings: readonly Reading[],
): Promise<ReadonlyMap<string, number>> {
  const wanted = [...new Map(readings.map(({ metric, unit }) => [seriesKey(metric, unit), { metric, unit }])).values()]
  const names = [wanted.map(({ metric }) => metric), wanted.map(({ unit }) => unit ?? null)]
  await client.query(
    `INSERT INTO metric (tenant_id, name, unit, first_device_id) SELECT $1, name, unit, $4 FROM unnest($2::text[], $3::text[]) AS g (name, unit)
     ON CONFLICT DO NOTHING`,
    [tenantId, ...names, deviceId],
  )
  const { rows } = await client.query<{ id: number; name: string; unit: string | null }>(
    `SELECT m.id, m.name, m.unit FROM metric m JOIN unnest($2::text[], $3::text[]) AS g (name, unit) ON m.name = g.name AND m.unit IS NOT DISTINCT FROM g.unit
     WHERE m.tenant_id = $1`,
    [tenantId, ...names],
  )
  return new Map(rows.map(({ id, name, unit }) => [seriesKey(name, unit ?? undefined), id]))
}

const sameValue =
  'value IS NOT DISTINCT FROM $4::float8 AND text IS NOT DISTINCT FROM $5::text AND flag IS NOT DISTINCT FROM $6::boolean'
const valuesOf = ({ value, text, flag }: Reading) => [value ?? null, text ?? null, flag ?? null]

/** Only rows of this message's arrival: an equal reading that came before it is another's. */
async function remove(client: Client, deviceId: number, metricId: number, ingestTimeUs: number, reading: Reading) {
  await client.query(
    `DELETE FROM reading WHERE device_id = $1 AND metric_id = $2 AND event_time = ${instant('$3')} AND ${sameValue} AND ingest_time = ${instant('$7')}`,
    [deviceId, metricId, reading.eventTimeUs, ...valuesOf(reading), ingestTimeUs],
  )
}

/** One that is there already, whoever brought it, stays the only one. */
async function add(client: Client, deviceId: number, metricId: number, ingestTimeUs: number, reading: Reading) {
  await client.query(
    `INSERT INTO reading (device_id, metric_id, event_time, value, text, flag, ingest_time, ordinal, clock, device_time)
     SELECT $1, $2, ${instant('$3')}, $4::float8, $5::text, $6::boolean, ${instant('$7')},
       coalesce((SELECT max(ordinal) + 1 FROM reading WHERE device_id = $1 AND metric_id = $2 AND event_time = ${instant('$3')}), 0), $8, ${instant('$9')}
     WHERE NOT EXISTS (SELECT FROM reading WHERE device_id = $1 AND metric_id = $2 AND event_time = ${instant('$3')} AND ${sameValue})`,
    [
      deviceId,
      metricId,
      reading.eventTimeUs,
      ...valuesOf(reading),
      ingestTimeUs,
      reading.clock ?? 0,
      reading.deviceTimeUs ?? null,
    ],
  )
}

async function renewLatest(client: Client, deviceId: number, metricIds: readonly number[]): Promise<void> {
  await client.query('DELETE FROM latest WHERE device_id = $1 AND metric_id = ANY($2)', [deviceId, metricIds])
  const columns = 'device_id, metric_id, event_time, ingest_time, value, clock, flag, text, device_time'
  await client.query(
    `INSERT INTO latest (${columns})
     SELECT r.* FROM unnest($2::int[]) AS m (id) CROSS JOIN LATERAL (
       SELECT ${columns} FROM reading WHERE device_id = $1 AND metric_id = m.id ORDER BY event_time DESC, ordinal DESC LIMIT 1) r`,
    [deviceId, metricIds],
  )
}

/** As the worker does with what it writes (worker/rollup/marks.ts), without ever leaving one out. */
async function mark(client: Client, deviceId: number, buckets: readonly (readonly [number, number])[]): Promise<void> {
  await client.query(
    `INSERT INTO rollup_dirty (epoch, device_id, metric_id, bucket)
     SELECT DISTINCT round.epoch, $1::int, g.metric_id, date_bin('10 minutes', ${instant('g.us')}, timestamptz 'epoch')
     FROM unnest($2::int[], $3::float8[]) AS g (metric_id, us), rollup_round round`,
    [deviceId, buckets.map(([metricId]) => metricId), buckets.map(([, us]) => us)],
  )
}

async function auditRun(client: Client, by: Change, run: RedecodeRun): Promise<void> {
  const { filter, messages, removed, added } = run
  const details = { from: filter.from, to: filter.to, messages, removed, added }
  if (run.auditId === undefined) {
    await writeAudit(client, by, 'reading.redecode', [{ tenant: filter.tenant, subject: filter.device, details }])
    const { rows } = await client.query<{ id: number }>(
      `SELECT currval(pg_get_serial_sequence('audit', 'id'))::float8 AS id`,
    )
    run.auditId = rows[0]?.id as number
  } else await client.query('UPDATE audit SET details = $2 WHERE id = $1', [run.auditId, JSON.stringify(details)])
}

/** The other names of a tenant's devices. */
export async function aliasesOfTenant(client: Client, tenant: string): Promise<ReadonlyMap<string, string>> {
  const { rows } = await client.query<{ alias: string; device: string }>(
    `SELECT unnest(aliases) AS alias, external_id AS device FROM device JOIN tenant ON tenant.id = tenant_id
     WHERE tenant.name = $1 AND aliases <> '{}'`,
    [tenant],
  )
  return new Map(rows.map(({ alias, device }) => [alias, device]))
}
