import type pg from 'pg'
import { type Check, type Finding, fail, ok, warn } from './check.ts'

/** Postgres stops taking writes near 2^31; by default it works against that from 2 × 10^8 on. */
const oldTransactions = 1_000_000_000
const veryOldTransactions = 1_800_000_000
/** More dead rows than this share of the living ones: three times what wakes autovacuum by default. */
const deadShare = 0.6

export interface ActivityLimits {
  readonly longSeconds: number
  readonly manyDeadRows: number
}

/** What keeps old rows alive, and whether they are cleared away. */
export function activityCheck({ longSeconds, manyDeadRows }: ActivityLimits): Check {
  return {
    name: 'vacuum',
    async run({ database, postgres }) {
      if (database === undefined) return [ok('not looked at: the embedded Postgres does not run')]
      const pool = await postgres()
      const looks = [
        longTransactions(pool, longSeconds),
        prepared(pool, longSeconds),
        deadRows(pool, manyDeadRows),
        age(pool),
      ]
      const findings = (await Promise.all(looks)).flat()
      return findings.length === 0 ? [ok('no transaction is open for long, and autovacuum keeps up')] : findings
    },
  }
}

export const databaseActivity = activityCheck({ longSeconds: 600, manyDeadRows: 100_000 })

async function longTransactions(pool: pg.Pool, longSeconds: number): Promise<Finding[]> {
  const { rows } = await pool.query<{ pid: number; seconds: number; application: string; state: string }>(
    `select pid, extract(epoch from clock_timestamp() - xact_start)::int as seconds, application_name as application, state
      from pg_stat_activity
      where datname = current_database() and backend_type = 'client backend' and xact_start < clock_timestamp() - $1 * interval '1 second'
      order by xact_start limit 5`,
    [longSeconds],
  )
  return rows.map(({ pid, seconds, application, state }) =>
    warn(
      `a transaction of "${application}" (process ${pid}, ${state}) is open for ${Math.round(seconds / 60)} min: nothing newer is cleared away`,
      'If it does nothing useful:',
      `psql "$DATABASE_URL" -c 'SELECT pg_terminate_backend(${pid})'`,
    ),
  )
}

async function prepared(pool: pg.Pool, longSeconds: number): Promise<Finding[]> {
  const { rows } = await pool.query<{ gid: string; minutes: number }>(
    `select gid, (extract(epoch from clock_timestamp() - prepared) / 60)::int as minutes from pg_prepared_xacts
      where database = current_database() and prepared < clock_timestamp() - $1 * interval '1 second' limit 5`,
    [longSeconds],
  )
  return rows.map(({ gid, minutes }) =>
    warn(
      `the prepared transaction ${gid} waits for ${minutes} min: it holds its locks until somebody ends it`,
      'COMMIT PREPARED or ROLLBACK PREPARED it.',
    ),
  )
}

async function deadRows(pool: pg.Pool, manyDeadRows: number): Promise<Finding[]> {
  const { rows } = await pool.query<{ table: string; dead: string; live: string }>(
    `select relid::regclass::text as table, n_dead_tup as dead, n_live_tup as live from pg_stat_user_tables
      where n_dead_tup > $1 and n_dead_tup > n_live_tup * $2::double precision order by n_dead_tup desc limit 5`,
    [manyDeadRows, deadShare],
  )
  return rows.map(({ table, dead, live }) =>
    warn(
      `${table} holds ${dead} dead rows beside ${live}: autovacuum is behind`,
      'Let it work faster (autovacuum_vacuum_cost_limit), and once by hand:',
      `psql "$DATABASE_URL" -c 'VACUUM (ANALYZE) ${table}'`,
    ),
  )
}

async function age(pool: pg.Pool): Promise<Finding[]> {
  const { rows } = await pool.query<{ age: string }>(
    'select age(datfrozenxid) as age from pg_database where datname = current_database()',
  )
  const transactions = Number(rows[0]?.age)
  if (transactions < oldTransactions) return []
  const seen = `the oldest row that is not frozen is ${transactions} transactions old; Postgres stops writing near 2147483648`
  return [
    (transactions < veryOldTransactions ? warn : fail)(
      seen,
      'Now, while there is time:',
      'vacuumdb --freeze "$DATABASE_URL"',
    ),
  ]
}
