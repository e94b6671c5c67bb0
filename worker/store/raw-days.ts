import type pg from 'pg'
import { advisoryLocks } from '#platform/advisory-locks.ts'
import { type Handle, handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'

const intervalMs = 600_000
/** A drop waits for whoever reads the table, and everybody else for it: rather later than long. */
const lockTimeoutMs = 1000

/** The days of `raw_message`: those that are asked for are there, those that have come are dropped. */
export interface RawDays extends Handle {
  /** @param days since the epoch */
  make(days: ReadonlySet<number>): Promise<void>
  /** Reads the catalog again, and drops what is old. */
  refresh(): Promise<void>
}

/** Without a route that keeps bytes it asks for the days that are there, and that is all. */
export async function startRawDays(pool: pg.Pool, log: Log, now: () => number = Date.now): Promise<RawDays> {
  let known: ReadonlySet<number> = new Set()
  let chain: Promise<unknown> = Promise.resolve()
  const alone = (work: () => Promise<void>) => {
    const done = chain.then(work)
    chain = done.catch(() => {})
    return done
  }
  const make = async (days: ReadonlySet<number>) => {
    if (days.values().every((day) => known.has(day))) return
    await alone(async () => {
      known = await makeDays(pool, days)
    })
  }
  const refresh = () =>
    alone(async () => {
      const days = await dropDays(pool, Math.floor(now() / 86_400_000), log)
      known = new Set(days)
    })
  await refresh()
  const timer = setInterval(() => {
    refresh().catch((error: unknown) => log.warn({ err: error }, 'old bytes could not be dropped; next try soon'))
  }, intervalMs)
  timer.unref()
  return {
    make,
    refresh,
    ...handleOf(async () => {
      clearInterval(timer)
      await chain
    }),
  }
}

async function makeDays(pool: pg.Pool, days: ReadonlySet<number>): Promise<Set<number>> {
  const client = await pool.connect()
  let broken = true
  try {
    await client.query('begin')
    await client.query('select pg_advisory_xact_lock($1, $2)', [advisoryLocks.space, advisoryLocks.partitions])
    const there = new Set((await daysOf(client)).values())
    for (const day of days) {
      if (there.has(day)) continue
      // Built on its own and then attached: that takes a lock which neither writers nor readers notice.
      await client.query(`create table if not exists "${tableOf(day)}" (like raw_message including all);
        alter table raw_message attach partition "${tableOf(day)}" for values from ('${isoDay(day)}') to ('${isoDay(day + 1)}');`)
      there.add(day)
    }
    await client.query('commit')
    broken = false
    return there
  } finally {
    client.release(broken)
  }
}

/** @returns those that are left */
async function dropDays(pool: pg.Pool, today: number, log: Log): Promise<number[]> {
  const client = await pool.connect()
  let broken = true
  try {
    const left: number[] = []
    for (const [table, day] of await daysOf(client)) {
      if (day > today || !(await drop(client, table, log))) left.push(day)
    }
    broken = false
    return left
  } finally {
    client.release(broken)
  }
}

async function drop(client: pg.ClientBase, table: string, log: Log): Promise<boolean> {
  try {
    await client.query(`begin; set local lock_timeout = ${lockTimeoutMs}; drop table if exists "${table}"; commit;`)
    log.debug({ table }, 'a day of raw messages was dropped')
    return true
  } catch (error) {
    await client.query('rollback')
    log.debug({ err: error, table }, 'a day of raw messages is in use; it is dropped later')
    return false
  }
}

async function daysOf(client: pg.ClientBase): Promise<Map<string, number>> {
  const { rows } = await client.query<{ table: string }>(
    `select c.relname as table from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'raw_message'::regclass`,
  )
  const days = new Map<string, number>()
  for (const { table } of rows) {
    const [, year, month, day] = /^raw_message_(\d{4})(\d\d)(\d\d)$/.exec(table) ?? []
    // One that somebody made by hand is theirs.
    if (day !== undefined) days.set(table, Date.UTC(Number(year), Number(month) - 1, Number(day)) / 86_400_000)
  }
  return days
}

function tableOf(day: number): string {
  return `raw_message_${isoDay(day).replaceAll('-', '')}`
}

function isoDay(day: number): string {
  return new Date(day * 86_400_000).toISOString().slice(0, 10)
}
