import type pg from 'pg'
import { rangeAt, rangeWidth, retentionMs } from '#worker/store/range-width.ts'
import { type Check, type Finding, fail, ok, warn } from './check.ts'

interface Range {
  readonly table: string
  readonly detach_pending: boolean
  readonly is_default: boolean
  /** Milliseconds since the epoch, from inclusive and to exclusive; null for a default, or a bound that is no time. */
  readonly from_ms: number | null
  readonly to_ms: number | null
}

const listedAtMost = 5

/** The ranges of `reading`: made ahead by a worker, taken away by the retention. */
export const partitions: Check = {
  name: 'partitions',
  async run({ config, database, postgres, now }) {
    if (database === undefined) return [ok('not looked at: the embedded Postgres does not run')]
    const ranges = await read(await postgres())
    if (ranges === undefined)
      return [warn('not checked: there is no table "reading" yet', undefined, 'npx fleetbridge init')]
    const timed = ranges.filter(({ to_ms }) => to_ms !== null)
    if (timed.length === 0 && ranges.length === 0) return [ok('none yet: the first worker makes them at its start')]
    const kept = retentionMs(config.retention.reading)
    return [
      ...ahead(timed, now(), rangeAt(rangeWidth(kept), now()).toMs),
      ...leftOver(ranges),
      ...overdue(timed, kept, now()),
    ]
  },
}

async function read(pool: pg.Pool): Promise<Range[] | undefined> {
  const exists = await pool.query<{ there: boolean }>("select to_regclass('reading') is not null as there")
  if (!exists.rows[0]?.there) return undefined
  const { rows } = await pool.query<Range>(
    `select c.oid::regclass::text as table, i.inhdetachpending as detach_pending, bound = 'DEFAULT' as is_default,
        (extract(epoch from (regexp_match(bound, $$FROM \\('([^']+)'\\)$$))[1]::timestamptz) * 1000)::double precision as from_ms,
        (extract(epoch from (regexp_match(bound, $$TO \\('([^']+)'\\)$$))[1]::timestamptz) * 1000)::double precision as to_ms
      from pg_inherits i join pg_class c on c.oid = i.inhrelid, pg_get_expr(c.relpartbound, c.oid) as bound
      where i.inhparent = 'reading'::regclass order by 4`,
  )
  return rows
}

function ahead(ranges: readonly Range[], now: number, nextFromMs: number): Finding[] {
  const holds = (ms: number) =>
    ranges.some(({ from_ms, to_ms }) => (from_ms ?? -Infinity) <= ms && ms < (to_ms ?? Infinity))
  const advice =
    'A worker makes two ranges ahead at its start and every ten minutes: start one, or see in its log what stops it.'
  if (!holds(now))
    return [fail(`none of the ${ranges.length} range(s) holds today: every first write has to wait for one`, advice)]
  if (!holds(nextFromMs)) return [warn('there is no range after the current one', advice)]
  const last = Math.max(...ranges.map(({ to_ms }) => to_ms ?? -Infinity))
  return [ok(`${ranges.length} range(s), made ahead until ${Number.isFinite(last) ? day(last) : 'for ever'}`)]
}

/** A default partition keeps new ranges from being attached without a scan of it, and no query is pruned past it. */
function leftOver(ranges: readonly Range[]): Finding[] {
  return ranges.flatMap(({ table, is_default, detach_pending }) => {
    if (detach_pending)
      return [
        warn(
          `${table} was half detached: nobody writes to it, and it still costs`,
          undefined,
          'npx fleetbridge retention run',
        ),
      ]
    if (!is_default) return []
    return [
      warn(
        `${table} is a default partition, which we do not make: every new range is checked against it, and every query reads it`,
        'Move its rows out by INSERT INTO reading SELECT … after:',
        sql(`ALTER TABLE reading DETACH PARTITION ${table} CONCURRENTLY`),
      ),
    ]
  })
}

function overdue(ranges: readonly Range[], keptMs: number | undefined, now: number): Finding[] {
  if (keptMs === undefined) return []
  // A day of grace: the workers do so once a day.
  const old = ranges.filter(({ to_ms }) => to_ms !== null && to_ms < now - keptMs - 86_400_000)
  if (old.length === 0) return []
  const names = old.slice(0, listedAtMost).map(({ table }) => table)
  return [
    warn(
      `${old.length} range(s) are past the retention (BRIDGE_RETENTION_READING): ${names.join(', ')}${old.length > names.length ? ', …' : ''}`,
      'A worker drops them once a day: start one, or see in its log what stops it. By hand, once without --dry-run:',
      'npx fleetbridge retention run --dry-run',
    ),
  ]
}

function sql(statement: string): string {
  return `psql "$DATABASE_URL" -c '${statement}'`
}

function day(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10)
}
