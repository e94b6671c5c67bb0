import { setTimeout as sleep } from 'node:timers/promises'
import type { Pool } from 'pg'
import type { Scalar } from '../scenario/models.ts'
import { microsOf, timestampOf } from '../sql-times.ts'
import { type AuditCounts, auditDevice, emptyAudit, type StoredRow } from './audit-device.ts'
import type { Journal, JournaledDevice } from './read-journal.ts'

export interface Audit extends AuditCounts {
  readonly run: string
  readonly devices: number
  readonly ok: boolean
  /** Some of the faults, for people. */
  readonly examples: readonly string[]
}

const maxExamples = 10
const devicesAtOnce = 100

/** Compares a journal with rows and dead letters, some devices a query. */
export async function audit(pool: Pool, journal: Journal): Promise<Audit> {
  const counts = emptyAudit()
  const examples: string[] = []
  const example = (text: string) => {
    if (examples.length < maxExamples) examples.push(text)
  }
  for (let from = 0; from < journal.devices.length; from += devicesAtOnce) {
    const devices = journal.devices.slice(from, from + devicesAtOnce)
    const [rows, letters] = await Promise.all([rowsOf(pool, devices), deadLettersOf(pool, devices)])
    for (const device of devices)
      auditDevice(counts, device, rows.get(device.id) ?? [], letters.get(device.id) ?? new Map(), example)
  }
  const { missing, phantom, doubled, reordered } = counts
  return {
    run: journal.run,
    devices: journal.devices.length,
    ...counts,
    ok: missing + phantom + doubled + reordered === 0,
    examples,
  }
}

/** Waits until as many messages are there as were acknowledged and no more come, or for so long nothing came. */
export async function waitUntilStored(
  pool: Pool,
  journal: Journal,
  { quietMs, timeoutMs }: { quietMs: number; timeoutMs: number },
): Promise<void> {
  const wanted = journal.devices.reduce(
    (sum, { messages }) => sum + messages.filter(({ accepted, values }) => accepted > 0 && values !== undefined).length,
    0,
  )
  const end = performance.now() + timeoutMs
  let before = -1
  let lastGrowthMs = performance.now()
  while (performance.now() < end) {
    const stored = await countStored(pool, journal.devices).catch(() => undefined) // the database may be away for a moment
    if (stored !== before) lastGrowthMs = performance.now()
    if (stored !== undefined) before = stored
    const calmMs = performance.now() - lastGrowthMs
    if (calmMs >= (before >= wanted ? 1000 : quietMs)) return
    await sleep(250)
  }
}

async function countStored(pool: Pool, devices: readonly JournaledDevice[]): Promise<number> {
  const { rows } = await pool.query<{ count: string }>(
    `SELECT count(*) FROM reading
     WHERE device_id IN (SELECT device.id FROM device JOIN tenant ON tenant.id = device.tenant_id WHERE tenant.name = $1 AND external_id = ANY ($2))
       AND metric_id IN (SELECT id FROM metric WHERE name = ANY ($3)) AND ingest_time >= ${timestampOf('$4')}`,
    [
      devices[0]?.tenant,
      devices.map(({ id }) => id),
      [...new Set(devices.map(({ metrics }) => metrics[0]))],
      devices[0]?.startedUs ?? 0,
    ],
  )
  return Number(rows[0]?.count ?? 0)
}

async function rowsOf(pool: Pool, devices: readonly JournaledDevice[]): Promise<Map<string, StoredRow[]>> {
  type Columns = [string, string, number, number, number | null, string | null, boolean | null, number, number | null]
  const { rows } = await pool.query<Columns>({
    text: `SELECT device.external_id, metric.name, ${microsOf('event_time')}, ${microsOf('ingest_time')}, value, text, flag, clock, ${microsOf('device_time')}
           FROM reading JOIN device ON device.id = reading.device_id JOIN metric ON metric.id = reading.metric_id
           WHERE reading.device_id = ANY (ARRAY(SELECT device.id FROM device JOIN tenant ON tenant.id = device.tenant_id WHERE tenant.name = $1 AND external_id = ANY ($2)))
             AND ingest_time >= ${timestampOf('$3')}`,
    values: [devices[0]?.tenant, devices.map(({ id }) => id), devices[0]?.startedUs ?? 0],
    rowMode: 'array',
  })
  const byDevice = new Map<string, StoredRow[]>()
  for (const [id, metric, eventTimeUs, ingestTimeUs, value, text, flag, clock, deviceTimeUs] of rows) {
    const row = { metric, eventTimeUs, ingestTimeUs, value: (value ?? text ?? flag) as Scalar, clock, deviceTimeUs }
    const known = byDevice.get(id)
    if (known === undefined) byDevice.set(id, [row])
    else known.push(row)
  }
  return byDevice
}

async function deadLettersOf(
  pool: Pool,
  devices: readonly JournaledDevice[],
): Promise<Map<string, Map<string, number>>> {
  const { rows } = await pool.query<{ device: string; sha256: string; count: number }>(
    `SELECT device, encode(sha256(payload), 'hex') AS sha256, count(*)::int AS count FROM dead_letter
     WHERE tenant = $1 AND device = ANY ($2) AND payload IS NOT NULL AND ingest_time >= ${timestampOf('$3')} GROUP BY 1, 2`,
    [devices[0]?.tenant, devices.map(({ id }) => id), devices[0]?.startedUs ?? 0],
  )
  const byDevice = new Map<string, Map<string, number>>()
  for (const { device, sha256, count } of rows) {
    const letters = byDevice.get(device) ?? new Map<string, number>()
    byDevice.set(device, letters.set(sha256, count))
  }
  return byDevice
}

/** The line that a person reads first. */
export function auditText(result: Audit): string {
  const { sent, acked, rows, duplicates, dead, missing, phantom, doubled, reordered } = result
  const counts = { sent, acked, rows, duplicates, dead, missing, phantom, doubled, reordered }
  const names = Object.keys(counts)
  const values = Object.values(counts).map(String)
  const widths = names.map((name, index) => Math.max(name.length, (values[index] as string).length))
  const line = (cells: readonly string[]) =>
    cells.map((cell, index) => cell.padStart(widths[index] as number)).join('  ')
  return [
    line(names),
    line(values),
    ...result.examples.map((text) => `  ${text}`),
    result.ok
      ? 'clean: every acknowledged message is there exactly once, and nothing else is'
      : 'FAILED: what is there is not what was sent and acknowledged',
  ].join('\n')
}
