import { statfs } from 'node:fs/promises'
import type pg from 'pg'
import { isLoopback } from '#platform/start-checks.ts'
import { retentionMs } from '#worker/store/range-width.ts'
import { type Check, type DoctorDatabase, ok } from './check.ts'
import { forecast, type StoredRange } from './disk-forecast.ts'

export const databaseSize: Check = {
  name: 'disk',
  async run({ config, database, postgres, now }) {
    if (database === undefined) return [ok('no forecast: the embedded Postgres does not run')]
    const pool = await postgres()
    const [ranges, databaseBytes, freeBytes] = await Promise.all([rangesOf(pool), sizeOf(pool), freeOf(database, pool)])
    return [forecast({ ranges, databaseBytes, freeBytes, keptMs: retentionMs(config.retention.reading), now: now() })]
  },
}

async function sizeOf(pool: pg.Pool): Promise<number> {
  const { rows } = await pool.query<{ bytes: string }>('select pg_database_size(current_database()) as bytes')
  return Number(rows[0]?.bytes)
}

/** A range without a row has its indexes' first pages, which are no growth. */
async function rangesOf(pool: pg.Pool): Promise<StoredRange[]> {
  const { rows } = await pool.query<{ from_ms: number; to_ms: number; bytes: string }>(
    `select (extract(epoch from (regexp_match(bound, $$FROM \\('([^']+)'\\)$$))[1]::timestamptz) * 1000)::double precision as from_ms,
        (extract(epoch from (regexp_match(bound, $$TO \\('([^']+)'\\)$$))[1]::timestamptz) * 1000)::double precision as to_ms,
        (select coalesce(sum(case when pg_table_size(t.relid) = 0 then 0 else pg_total_relation_size(t.relid) end), 0)
          from pg_partition_tree(c.oid) t where t.isleaf) as bytes
      from pg_inherits i join pg_class c on c.oid = i.inhrelid, pg_get_expr(c.relpartbound, c.oid) as bound
      where i.inhparent = to_regclass('reading') and bound like 'FOR VALUES FROM (''%'') TO (''%'')'`,
  )
  return rows.map(({ from_ms, to_ms, bytes }) => ({ fromMs: from_ms, toMs: to_ms, bytes: Number(bytes) }))
}

/** Postgres does not tell; on this machine its folder is asked, where its name may be known. */
async function freeOf({ url, embeddedPath }: DoctorDatabase, pool: pg.Pool): Promise<number | undefined> {
  try {
    const path = embeddedPath ?? (isLoopback(new URL(url).hostname) ? await dataDirectory(pool) : undefined)
    if (path === undefined) return undefined
    const { bavail, bsize } = await statfs(path)
    return bavail * bsize
  } catch {
    return undefined // not for this user, or it is a container's path
  }
}

async function dataDirectory(pool: pg.Pool): Promise<string | undefined> {
  const { rows } = await pool.query<{ path: string | null }>(
    `select case when pg_has_role('pg_read_all_settings', 'member') then current_setting('data_directory') end as path`,
  )
  return rows[0]?.path ?? undefined
}
