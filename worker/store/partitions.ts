import type pg from 'pg'
import { advisoryLocks } from '#platform/advisory-locks.ts'
import { type Handle, handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'
import { type RangeWidth, rangeAt, type TimeRange } from './range-width.ts'

export const hashModulus = 4
/** Made before they are needed: this many ranges after the current one. */
const rangesAhead = 2
const aheadIntervalMs = 600_000
/** Ranges made at once, and then a second: a device with times all over the retention slows a fresh database down, and does not flood its catalog. */
const burst = 32
const perSecond = 4

export interface Partition extends TimeRange {
  /** Quoted where need be, ready for SQL. */
  readonly table: string
}

/** Tables with ranges, by what each range is parted once more: `reading` by hash on device_id, rollups not. */
export type RangedTable = 'reading' | 'rollup_10m' | 'rollup_1h'

/** The ranges of a table: which exist, and how missing ones are made. */
export interface Partitions extends Handle {
  /** The partition that holds an instant, as far as we know. */
  at(us: number): Partition | undefined
  /** All, the oldest first. */
  all(): readonly Partition[]
  /** Makes the ranges of these instants; waits where that goes faster than the cap. Not inside a transaction of the caller's. */
  make(timesMs: Iterable<number>): Promise<void>
  /** Reads the catalog again, after a sign that it changed. */
  refresh(): Promise<void>
}

export interface PartitionsOptions {
  readonly pool: pg.Pool
  /** `reading` when absent. */
  readonly table?: RangedTable
  readonly width: RangeWidth
  readonly log: Log
  /** Called for each range made. */
  readonly onMade: () => void
}

/** Reads the ranges, makes those of now and the next ones, and keeps doing so. */
export async function startPartitions({
  pool,
  table = 'reading',
  width,
  log,
  onMade,
}: PartitionsOptions): Promise<Partitions> {
  let known: readonly Partition[] = []
  let last: Partition | undefined
  let chain: Promise<unknown> = Promise.resolve()
  let tokens = burst
  let refilledAt = Date.now()

  const at = (us: number): Partition | undefined => {
    const ms = us / 1000
    if (last !== undefined && ms >= last.fromMs && ms < last.toMs) return last
    const found = find(known, ms)
    if (found !== undefined) last = found
    return found
  }
  const learn = (partitions: readonly Partition[]) => {
    known = partitions
    last = undefined
  }
  const spendToken = async () => {
    const now = Date.now()
    tokens = Math.min(burst, tokens + ((now - refilledAt) / 1000) * perSecond)
    refilledAt = now
    tokens--
    if (tokens < 0) await new Promise((resolve) => setTimeout(resolve, (-tokens / perSecond) * 1000))
  }
  const makeOne = async (ms: number) => {
    if (find(known, ms) !== undefined) return
    await spendToken()
    const { partitions, made } = await makePartition(pool, table, width, ms)
    learn(partitions)
    if (!made) return
    onMade()
    log.debug(
      { table, from: new Date(made.fromMs).toISOString(), to: new Date(made.toMs).toISOString() },
      'partition made',
    )
  }
  /** One at a time in this process; between processes the advisory lock sees to it. */
  const alone = <Result>(work: () => Promise<Result>): Promise<Result> => {
    const done = chain.then(work)
    chain = done.catch(() => {})
    return done
  }
  const make = (timesMs: Iterable<number>) =>
    alone(async () => {
      for (const ms of timesMs) await makeOne(ms)
    })
  const refresh = () => alone(async () => learn(await readPartitions(pool, table)))
  const makeAhead = () => make(rangesFrom(width, Date.now(), rangesAhead))

  await refresh()
  await makeAhead()
  const timer = setInterval(() => {
    makeAhead().catch((error: unknown) => log.warn({ err: error }, 'partitions could not be made ahead; next try soon'))
  }, aheadIntervalMs)
  timer.unref()
  const handle = handleOf(async () => {
    clearInterval(timer)
    await chain
  })
  return { ...handle, at, all: () => known, make, refresh }
}

function rangesFrom(width: RangeWidth, ms: number, ahead: number): number[] {
  const times = [ms]
  for (let count = 0; count < ahead; count++) times.push(rangeAt(width, times.at(-1) as number).toMs)
  return times
}

/** Binary search; ranges are sorted and do not overlap. */
function find(partitions: readonly Partition[], ms: number): Partition | undefined {
  let low = 0
  let high = partitions.length - 1
  while (low <= high) {
    const middle = (low + high) >> 1
    const partition = partitions[middle] as Partition
    if (ms < partition.fromMs) high = middle - 1
    else if (ms >= partition.toMs) low = middle + 1
    else return partition
  }
  return undefined
}

async function readPartitions(pool: pg.Pool, table: RangedTable): Promise<Partition[]> {
  return inTransaction(pool, (client) => selectPartitions(client, table))
}

async function makePartition(
  pool: pg.Pool,
  parent: RangedTable,
  width: RangeWidth,
  ms: number,
): Promise<{ partitions: Partition[]; made: TimeRange | undefined }> {
  return inTransaction(pool, async (client) => {
    await client.query('select pg_advisory_xact_lock($1, $2)', [advisoryLocks.space, advisoryLocks.partitions])
    const before = await selectPartitions(client, parent)
    if (find(before, ms) !== undefined) return { partitions: before, made: undefined }
    const range = gapAt(before, rangeAt(width, ms), ms)
    await createRange(client, parent, range)
    return { partitions: await selectPartitions(client, parent), made: range }
  })
}

/** Where ranges of another width exist (the retention was changed), the new one fills the gap between them. */
function gapAt(partitions: readonly Partition[], wanted: TimeRange, ms: number): TimeRange {
  let { fromMs, toMs } = wanted
  for (const partition of partitions) {
    if (partition.toMs <= ms) fromMs = Math.max(fromMs, partition.toMs)
    if (partition.fromMs > ms) toMs = Math.min(toMs, partition.fromMs)
  }
  return { fromMs, toMs }
}

/**
 * The range is built on its own and then attached: that takes a lock on the parent which neither writers nor readers notice,
 * where CREATE TABLE … PARTITION OF would wait for all of them, and they for it.
 */
async function createRange(client: pg.ClientBase, parent: RangedTable, { fromMs, toMs }: TimeRange): Promise<void> {
  const table = await freeName(client, `${parent}_${dateOf(fromMs)}_${dateOf(toMs)}`)
  const leaves = Array.from(
    { length: hashModulus },
    (_, remainder) =>
      `create table "${table}_h${remainder}" partition of "${table}" for values with (modulus ${hashModulus}, remainder ${remainder});`,
  )
  // A bucket's row is written again and again while it fills, so its page has room for that.
  const parted =
    parent === 'reading'
      ? `create table "${table}" (like reading including all) partition by hash (device_id); ${leaves.join('\n')}`
      : `create table "${table}" (like ${parent} including all) with (fillfactor = 80);`
  await client.query(`${parted}
    alter table ${parent} attach partition "${table}"
      for values from ('${new Date(fromMs).toISOString()}') to ('${new Date(toMs).toISOString()}');`)
}

/** A range that was detached and kept still has its name. */
async function freeName(client: pg.ClientBase, name: string): Promise<string> {
  for (let number = 1; ; number++) {
    const candidate = number === 1 ? name : `${name}_${number}`
    const { rows } = await client.query('select to_regclass(quote_ident($1)) is null as free', [candidate])
    if (rows[0].free) return candidate
  }
}

function dateOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10).replaceAll('-', '')
}

/** The ranges, the oldest first. Within a transaction. */
export async function selectPartitions(client: pg.ClientBase, parent: RangedTable): Promise<Partition[]> {
  // Bounds are printed in the session's time zone and style.
  await client.query(`set local timezone = 'UTC'; set local datestyle = 'ISO'`)
  const { rows } = await client.query<{ table: string; bound: string }>(
    `select c.oid::regclass::text as table, pg_get_expr(c.relpartbound, c.oid) as bound
      from pg_inherits i join pg_class c on c.oid = i.inhrelid
      where i.inhparent = $1::regclass and not i.inhdetachpending`,
    [parent],
  )
  return rows
    .flatMap(({ table, bound }) => {
      const match = /^FOR VALUES FROM \((.+)\) TO \((.+)\)$/.exec(bound)
      return match === null ? [] : [{ table, fromMs: boundMs(match[1] as string), toMs: boundMs(match[2] as string) }]
    })
    .sort((a, b) => a.fromMs - b.fromMs)
}

function boundMs(bound: string): number {
  if (bound === 'MINVALUE') return -Infinity
  if (bound === 'MAXVALUE') return Infinity
  return Date.parse(bound.slice(1, -1).replace(' ', 'T').replace(/\+00$/, 'Z'))
}

async function inTransaction<Result>(pool: pg.Pool, work: (client: pg.ClientBase) => Promise<Result>): Promise<Result> {
  const client = await pool.connect()
  let broken = true
  try {
    await client.query('begin')
    const result = await work(client)
    await client.query('commit')
    broken = false
    return result
  } finally {
    // After an error the connection goes, and the transaction with it.
    client.release(broken)
  }
}
