import type pg from 'pg'
import { advisoryLocks } from '#platform/advisory-locks.ts'
import type { Log } from '#platform/log.ts'
import { type RangedTable, selectPartitions } from '../store/partitions.ts'
import { retentionMs } from '../store/range-width.ts'

/** As in the configuration: `90d` or `forever`. */
export interface KeptFor {
  readonly reading: string
  readonly rollup10m: string
  readonly rollup1h: string
}

export interface OldRange {
  readonly parent: RangedTable
  /** Quoted where need be, ready for SQL. */
  readonly table: string
  readonly fromMs: number
  readonly toMs: number
  readonly bytes: number
}

/** Its row in `upkeep` is there while a range is on its way out: after a crash it is known from one that somebody detached to keep it. */
const dropTask = 'retention.drop'

/** Ranges of which every instant is past the retention of their table, the oldest first. */
export async function oldRanges(client: pg.ClientBase, kept: KeptFor, nowMs: number): Promise<OldRange[]> {
  const tables: [RangedTable, string][] = [
    ['reading', kept.reading],
    ['rollup_10m', kept.rollup10m],
    ['rollup_1h', kept.rollup1h],
  ]
  const old: OldRange[] = []
  for (const [parent, retention] of tables) {
    const keptMs = retentionMs(retention)
    if (keptMs === undefined) continue
    await client.query('begin')
    const ranges = await selectPartitions(client, parent)
    await client.query('commit')
    for (const { table, fromMs, toMs } of ranges)
      if (toMs <= nowMs - keptMs) old.push({ parent, table, fromMs, toMs, bytes: await bytesOf(client, table) })
  }
  return old
}

async function bytesOf(client: pg.ClientBase, table: string): Promise<number> {
  const { rows } = await client.query<{ bytes: string }>(
    'select coalesce(sum(pg_total_relation_size(relid)), 0)::bigint as bytes from pg_partition_tree($1::regclass)',
    [table],
  )
  return Number(rows[0]?.bytes ?? 0)
}

/**
 * Takes a range away without a lock that writers or readers of the table would wait for: DETACH … CONCURRENTLY waits for them, and not they for
 * it; dropped is a table that nobody knows any more. Outside a transaction.
 */
export async function dropRange(client: pg.ClientBase, { parent, table, toMs }: OldRange, log: Log): Promise<void> {
  if (parent === 'reading') await keepRollups(client, 'true', toMs)
  await client.query(
    `insert into upkeep (task, finished_at, details) values ($1, clock_timestamp(), $2)
      on conflict (task) do update set finished_at = excluded.finished_at, details = excluded.details`,
    [dropTask, JSON.stringify({ parent, table })],
  )
  await client.query(`alter table ${parent} detach partition ${table} concurrently`)
  await client.query(`drop table if exists ${table}`)
  await client.query('delete from upkeep where task = $1', [dropTask])
  log.info({ table }, 'a range past its retention was dropped')
}

/** Ends what a killed process had begun: a range that is half detached, or detached and still there. */
export async function finishDrops(client: pg.ClientBase, log: Log): Promise<void> {
  const { rows: halves } = await client.query<{ parent: string; table: string }>(
    `select inhparent::regclass::text as parent, inhrelid::regclass::text as table from pg_inherits
      where inhdetachpending and inhparent in ('reading'::regclass, 'rollup_10m'::regclass, 'rollup_1h'::regclass)`,
  )
  for (const { parent, table } of halves) {
    await client.query(`alter table ${parent} detach partition ${table} finalize`)
    log.info({ table }, 'a half detached range was detached')
  }
  const { rows } = await client.query<{ table: string }>(
    `select c.oid::regclass::text as table from upkeep u join pg_class c on c.oid = to_regclass(u.details->>'table')
      where u.task = $1 and not c.relispartition`,
    [dropTask],
  )
  for (const { table } of rows) await client.query(`drop table if exists ${table}`)
  await client.query('delete from upkeep where task = $1', [dropTask])
}

/**
 * Before readings go: buckets of their time are not computed any more, or a late reading would make a rollup of itself alone. Under the lock of
 * who computes, so that none is at it with the readings half gone.
 * @param tenants a condition on the tenant `t`; `$2` is its number
 */
export async function keepRollups(
  client: pg.ClientBase,
  tenants: 'true' | 't.id = $2',
  beforeMs: number,
  tenantId?: number,
): Promise<void> {
  await client.query('begin')
  try {
    await client.query('select pg_advisory_xact_lock($1, $2)', [advisoryLocks.space, advisoryLocks.rollups])
    await client.query(
      `insert into rollup_state as s (tenant_id, readings_from)
        select t.id, to_timestamp($1::float8 / 1000) from tenant t where ${tenants}
        on conflict (tenant_id) do update set readings_from = greatest(s.readings_from, excluded.readings_from)`,
      tenantId === undefined ? [beforeMs] : [beforeMs, tenantId],
    )
    await client.query('commit')
  } catch (error) {
    await client.query('rollback')
    throw error
  }
}
