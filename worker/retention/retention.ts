import type pg from 'pg'
import { advisoryLocks } from '#platform/advisory-locks.ts'
import type { Log } from '#platform/log.ts'
import { dropRange, finishDrops, type KeptFor, type OldRange, oldRanges } from './old-ranges.ts'
import { countTenantReadings, deleteTenantReadings, tenantRetentions } from './tenant-readings.ts'

export interface RetentionOptions {
  /** Of its own: a lock of the session, and statements that may not stand in a transaction. */
  readonly client: pg.ClientBase
  readonly kept: KeptFor
  readonly log: Log
  /** Only look. */
  readonly isDryRun?: boolean
  readonly nowMs?: number
  readonly mustStop?: () => boolean
}

export interface RetentionReport {
  readonly ranges: readonly OldRange[]
  readonly tenants: readonly { readonly tenant: string; readonly days: number; readonly readings: number }[]
}

export const retentionTask = 'retention'
/** What holds a range for longer is tried again later. */
const lockTimeoutMs = 10_000
/** Minute counts, which `audit --since` reads. */
const minutesKept = '14 days'

/**
 * Takes away what is past its retention. Where it stops half-way, the next run goes on.
 * @returns what went, or would go; undefined when another process is at it
 */
export async function runRetention({
  client,
  kept,
  log,
  isDryRun = false,
  nowMs = Date.now(),
  mustStop = () => false,
}: RetentionOptions): Promise<RetentionReport | undefined> {
  const lock = [advisoryLocks.space, advisoryLocks.retention]
  const { rows } = await client.query<{ mine: boolean }>('select pg_try_advisory_lock($1, $2) as mine', lock)
  if (rows[0]?.mine !== true) return undefined
  try {
    // Deleting and waiting for readers takes its time, and holds nobody up.
    await client.query(`set statement_timeout = 0; set lock_timeout = ${lockTimeoutMs}`)
    if (!isDryRun) await finishDrops(client, log)
    const ranges = await oldRanges(client, kept, nowMs)
    if (!isDryRun) for (const range of ranges) if (!mustStop()) await dropRange(client, range, log)
    const tenants: RetentionReport['tenants'][number][] = []
    for (const retention of await tenantRetentions(client, kept.reading, nowMs)) {
      const { tenant, days } = retention
      const readings = isDryRun
        ? await countTenantReadings(client, retention)
        : await deleteTenantReadings(client, retention, mustStop)
      tenants.push({ tenant, days, readings })
    }
    const report = { ranges, tenants }
    if (!isDryRun && !mustStop()) await finish(client, report)
    return report
  } finally {
    await client.query('select pg_advisory_unlock($1, $2)', lock).catch(() => {}) // the session may be gone, and the lock with it
  }
}

async function finish(client: pg.ClientBase, { ranges, tenants }: RetentionReport): Promise<void> {
  await client.query(`delete from ingest_minute where minute < now() - interval '${minutesKept}'`)
  const details = { ranges: ranges.map(({ table }) => table), tenants }
  await client.query(
    `insert into upkeep (task, finished_at, details) values ($1, clock_timestamp(), $2)
      on conflict (task) do update set finished_at = excluded.finished_at, details = excluded.details`,
    [retentionTask, JSON.stringify(details)],
  )
}
