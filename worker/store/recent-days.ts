import type pg from 'pg'
import { advisoryLocks } from '#platform/advisory-locks.ts'
import { type Handle, handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'

const dayMs = 86_400_000
const daysAhead = 2
const intervalMs = 600_000
/** A drop waits for whoever reads the table, and everybody else for it: rather later than long. */
const lockTimeoutMs = 1000

/** The days of `recent_message`: today's and the next are there, those past the keeping are dropped. */
export interface RecentDays extends Handle {
  /** Looks now: makes what is missing, drops what is old. */
  refresh(): Promise<void>
}

export interface RecentDaysOptions {
  readonly pool: pg.Pool
  /** Whole days that a name is remembered after the day on which it was written. */
  readonly keepDays: number
  readonly log: Log
  readonly now?: () => number
}

export async function startRecentDays({ pool, keepDays, log, now = Date.now }: RecentDaysOptions): Promise<RecentDays> {
  let chain: Promise<unknown> = Promise.resolve()
  const refresh = () => {
    const done = chain.then(() => makeAndDrop(pool, Math.floor(now() / dayMs), keepDays, log))
    chain = done.catch(() => {})
    return done
  }
  await refresh()
  const timer = setInterval(() => {
    refresh().catch((error: unknown) =>
      log.warn({ err: error }, 'days of recent messages could not be made; next try soon'),
    )
  }, intervalMs)
  timer.unref()
  return {
    refresh,
    ...handleOf(async () => {
      clearInterval(timer)
      await chain
    }),
  }
}

async function makeAndDrop(pool: pg.Pool, today: number, keepDays: number, log: Log): Promise<void> {
  const client = await pool.connect()
  let broken = true
  try {
    await client.query('begin')
    await client.query('select pg_advisory_xact_lock($1, $2)', [advisoryLocks.space, advisoryLocks.partitions])
    const there = await daysOf(client)
    // From yesterday: the day of a row is by the clock of Postgres, which may be a little behind ours.
    for (let day = today - 1; day <= today + daysAhead; day++) if (!there.has(tableOf(day))) await make(client, day)
    await client.query('commit')
    for (const [table, day] of there) if (day < today - keepDays) await drop(client, table, log)
    broken = false
  } finally {
    client.release(broken)
  }
}

async function daysOf(client: pg.ClientBase): Promise<Map<string, number>> {
  const { rows } = await client.query<{ table: string }>(
    `select c.relname as table from pg_inherits i join pg_class c on c.oid = i.inhrelid
      where i.inhparent = 'recent_message'::regclass`,
  )
  const days = new Map<string, number>()
  for (const { table } of rows) {
    const [, year, month, day] = /^recent_message_(\d{4})(\d\d)(\d\d)$/.exec(table) ?? []
    // One that somebody made by hand is theirs.
    if (day !== undefined) days.set(table, Date.UTC(Number(year), Number(month) - 1, Number(day)) / dayMs)
  }
  return days
}

/** Built on its own and then attached: that takes a lock which neither writers nor readers notice. */
async function make(client: pg.ClientBase, day: number): Promise<void> {
  const table = tableOf(day)
  await client.query(`create table if not exists "${table}" (like recent_message including all);
    alter table recent_message attach partition "${table}" for values from ('${isoDay(day)}') to ('${isoDay(day + 1)}');`)
}

async function drop(client: pg.ClientBase, table: string, log: Log): Promise<void> {
  try {
    await client.query(`begin; set local lock_timeout = ${lockTimeoutMs}; drop table if exists "${table}"; commit;`)
    log.debug({ table }, 'a day of recent messages was dropped')
  } catch (error) {
    await client.query('rollback')
    log.debug({ err: error, table }, 'a day of recent messages is in use; it is dropped later')
  }
}

function tableOf(day: number): string {
  return `recent_message_${isoDay(day).replaceAll('-', '')}`
}

function isoDay(day: number): string {
  return new Date(day * dayMs).toISOString().slice(0, 10)
}
