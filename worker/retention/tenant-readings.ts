import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { int4Array } from '../store/array-parameter.ts'
import { selectPartitions } from '../store/partitions.ts'
import { retentionMs } from '../store/range-width.ts'
import { keepRollups } from './old-ranges.ts'

export interface TenantRetention {
  readonly tenant: string
  readonly tenantId: number
  readonly days: number
  /** Readings from before this go; a whole hour, so that no rollup has lost half of its readings. */
  readonly beforeMs: number
}

const hourMs = 3_600_000
const dayMs = 24 * hourMs
/** Of one statement: it holds locks, and makes dead rows. */
const rowsAtOnce = 5000
const devicesAtOnce = 500
/** Between two statements, so that autovacuum and the others' disk keep up. */
const restMs = 20

/** Tenants that keep less than the configuration says. */
export async function tenantRetentions(
  client: pg.ClientBase,
  reading: string,
  nowMs: number,
): Promise<TenantRetention[]> {
  const { rows } = await client.query<{ id: number; name: string; days: number }>(
    'select id, name, retention_days as days from tenant where retention_days is not null order by name',
  )
  const keptMs = retentionMs(reading) ?? Number.POSITIVE_INFINITY
  return rows
    .filter(({ days }) => days * dayMs < keptMs)
    .map(({ id, name, days }) => ({
      tenant: name,
      tenantId: id,
      days,
      beforeMs: Math.floor((nowMs - days * dayMs) / hourMs) * hourMs,
    }))
}

/** @returns how many rows would go */
export async function countTenantReadings(client: pg.ClientBase, retention: TenantRetention): Promise<number> {
  let count = 0
  await eachLeaf(client, retention, async (leaf, devices) => {
    const { rows } = await client.query<{ count: string }>(
      `select count(*) from ${leaf} where device_id = any($1) and event_time < to_timestamp($2::float8 / 1000)`,
      [devices, retention.beforeMs],
    )
    count += Number(rows[0]?.count ?? 0)
  })
  return count
}

/** Some rows a statement, each a transaction: nobody else writes these rows, so nobody waits. @returns how many rows went */
export async function deleteTenantReadings(
  client: pg.ClientBase,
  retention: TenantRetention,
  mustStop: () => boolean,
): Promise<number> {
  await keepRollups(client, 't.id = $2', retention.beforeMs, retention.tenantId)
  let count = 0
  await eachLeaf(client, retention, async (leaf, devices) => {
    for (let deleted = rowsAtOnce; deleted === rowsAtOnce && !mustStop(); ) {
      const { rowCount } = await client.query(
        `delete from ${leaf} where ctid = any(array(
          select ctid from ${leaf} where device_id = any($1) and event_time < to_timestamp($2::float8 / 1000) limit ${rowsAtOnce}))`,
        [devices, retention.beforeMs],
      )
      deleted = rowCount ?? 0
      count += deleted
      if (deleted > 0) await sleep(restMs)
    }
  })
  return count
}

/** The tables that hold rows, of every range that begins before the limit, with some of the tenant's devices at once. */
async function eachLeaf(
  client: pg.ClientBase,
  { tenantId, beforeMs }: TenantRetention,
  visit: (leaf: string, devices: Buffer) => Promise<void>,
): Promise<void> {
  const { rows: devices } = await client.query<{ id: number }>(
    'select id from device where tenant_id = $1 order by id',
    [tenantId],
  )
  if (devices.length === 0) return
  await client.query('begin')
  const ranges = await selectPartitions(client, 'reading')
  await client.query('commit')
  for (const { table, fromMs } of ranges) {
    if (fromMs >= beforeMs) break
    const { rows: leaves } = await client.query<{ leaf: string }>(
      'select relid::text as leaf from pg_partition_tree($1::regclass) where isleaf',
      [table],
    )
    for (const { leaf } of leaves)
      for (let from = 0; from < devices.length; from += devicesAtOnce)
        await visit(leaf, int4Array(devices.slice(from, from + devicesAtOnce).map(({ id }) => id)))
  }
}
