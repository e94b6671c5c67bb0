import type pg from 'pg'
import { advisoryLocks } from '#platform/advisory-locks.ts'
import { int4Array, timestamptzArray } from '../store/array-parameter.ts'
import type { Partition, Partitions } from '../store/partitions.ts'
import { bucketUs } from './marks.ts'

export const hourUs = 3_600_000_000

export interface ComputeTools {
  readonly readings: Partitions
  readonly tenMinutes: Partitions
  readonly hours: Partitions
  /** Rollups by 10 minutes from before this may be gone. */
  readonly tenMinutesFromUs: () => number
}

/** One row of a rollup, by its key. */
interface Bucket {
  readonly deviceId: number
  readonly metricId: number
  readonly fromUs: number
}

interface MarkRow {
  readonly device_id: number
  readonly metric_id: number
  readonly us: string
  readonly is_kept: boolean
}

export interface Computed {
  /** Marks that were taken. */
  readonly marks: number
  /** Some of earlier epochs are left. */
  readonly isMore: boolean
}

/** How long it waits for transactions of the epoch before; they are batches of a worker. */
const sealTimeoutMs = 2000

/**
 * Takes the lock under which one process computes, and sees that the last epoch is over: every transaction that left marks out on its account has
 * ended. Within a transaction.
 * @returns the current epoch, or undefined when another process has the lock
 */
export async function sealEpoch(client: pg.ClientBase): Promise<number | undefined> {
  const { rows } = await client.query<{ mine: boolean }>('select pg_try_advisory_xact_lock($1, $2) as mine', [
    advisoryLocks.space,
    advisoryLocks.rollups,
  ])
  if (rows[0]?.mine !== true) return undefined
  const { rows: rounds } = await client.query<{ epoch: number }>('select epoch from rollup_round')
  const epoch = rounds[0]?.epoch as number
  await client.query(`set local lock_timeout = ${sealTimeoutMs}`)
  await client.query('select pg_advisory_xact_lock($1, $2)', [advisoryLocks.rollupSpace, epoch - 1])
  await client.query('set local lock_timeout = 0')
  return epoch
}

/**
 * Takes the oldest marks away and computes their buckets from `reading`, and then their hours, in one transaction.
 * @param limit marks at most
 * @returns undefined when another process is at it
 */
export async function computeSome(
  client: pg.ClientBase,
  tools: ComputeTools,
  limit: number,
): Promise<Computed | undefined> {
  await client.query('begin')
  const epoch = await sealEpoch(client)
  if (epoch === undefined) {
    await client.query('rollback')
    return undefined
  }
  const { rows } = await client.query<MarkRow>(
    `with taken as (
        delete from rollup_dirty where id in (select id from rollup_dirty where epoch < $1 order by id limit $2)
        returning device_id, metric_id, bucket)
      select t.device_id, t.metric_id, (extract(epoch from t.bucket) * 1000000)::bigint as us,
        t.bucket >= coalesce(s.readings_from, '-infinity') as is_kept
      from (select distinct * from taken) t
      join device d on d.id = t.device_id
      left join rollup_state s on s.tenant_id = d.tenant_id`,
    [epoch, limit],
  )
  await compute(client, tools, bucketsOf(rows, tools.tenMinutesFromUs()))
  const { rows: left } = await client.query<{ more: boolean }>(
    'select exists (select from rollup_dirty where epoch < $1) as more',
    [epoch],
  )
  const isMore = left[0]?.more === true
  if (!isMore) await tellProcessed(client)
  await client.query('commit')
  return { marks: rows.length, isMore }
}

/** Whatever was committed before this epoch began had its marks in one before: these are over, and none is left. */
async function tellProcessed(client: pg.ClientBase): Promise<void> {
  await client.query(
    `insert into rollup_state as s (tenant_id, processed_until) select t.id, r.begun_at from tenant t, rollup_round r
      on conflict (tenant_id) do update set processed_until = greatest(s.processed_until, excluded.processed_until)`,
  )
}

/** Where the rollups by 10 minutes are gone, an hour needs all six of its own again. */
function bucketsOf(rows: readonly MarkRow[], tenMinutesFromUs: number): Bucket[] {
  const buckets = new Map<string, Bucket>()
  const add = (deviceId: number, metricId: number, fromUs: number) =>
    buckets.set(`${deviceId} ${metricId} ${fromUs}`, { deviceId, metricId, fromUs })
  for (const { device_id, metric_id, us, is_kept } of rows) {
    if (!is_kept) continue
    const fromUs = Number(us)
    const hour = floor(fromUs, hourUs)
    if (hour >= tenMinutesFromUs) add(device_id, metric_id, fromUs)
    else for (let at = hour; at < hour + hourUs; at += bucketUs) add(device_id, metric_id, at)
  }
  return [...buckets.values()].sort((a, b) => a.deviceId - b.deviceId || a.metricId - b.metricId || a.fromUs - b.fromUs)
}

async function compute(client: pg.ClientBase, tools: ComputeTools, buckets: readonly Bucket[]): Promise<void> {
  if (buckets.length === 0) return
  if (buckets.some(({ fromUs }) => tools.readings.at(fromUs) === undefined)) await tools.readings.refresh()
  const hours = new Map<string, Bucket>()
  for (const { deviceId, metricId, fromUs } of buckets) {
    const hour = floor(fromUs, hourUs)
    hours.set(`${deviceId} ${metricId} ${hour}`, { deviceId, metricId, fromUs: hour })
  }
  await makeRanges(tools.tenMinutes, buckets)
  await makeRanges(tools.hours, hours.values())
  // Straight from the range's table: over all of `reading` the planner would open every partition.
  for (const [partition, members] of byRange(tools.readings, buckets))
    await computeTenMinutes(client, partition, members)
  for (const [partition, members] of byRange(tools.tenMinutes, hours.values()))
    if (partition !== undefined) await computeHours(client, partition, members)
}

/** By days, which no range is narrower than; making takes a transaction of its own. */
async function makeRanges(partitions: Partitions, buckets: Iterable<Bucket>): Promise<void> {
  const missing = new Set<number>()
  for (const { fromUs } of buckets)
    if (partitions.at(fromUs) === undefined) missing.add(floor(fromUs, 24 * hourUs) / 1000)
  if (missing.size > 0) await partitions.make(missing)
}

function byRange(partitions: Partitions, buckets: Iterable<Bucket>): Map<Partition | undefined, Bucket[]> {
  return Map.groupBy(buckets, ({ fromUs }) => partitions.at(fromUs))
}

const rollupColumns = 'device_id, metric_id, bucket, count, min, max, sum, last_time, last_value, last_text, last_flag'
const replace = `on conflict (device_id, metric_id, bucket) do update set
    count = excluded.count, min = excluded.min, max = excluded.max, sum = excluded.sum, last_time = excluded.last_time,
    last_value = excluded.last_value, last_text = excluded.last_text, last_flag = excluded.last_flag`
const wanted = 'unnest($1::int4[], $2::int4[], $3::timestamptz[]) as d(device_id, metric_id, bucket)'

/**
 * In the order of time, so that the same readings give the same sum to the last bit. Numbers past ±1e290 have no sum: Postgres refuses one that
 * is no double any more, and a device could stop all rollups.
 */
const tenMinutesOf = (readings: string) => `
  select d.device_id, d.metric_id, d.bucket, a.count, a.min, a.max, a.sum, l.event_time, l.value, l.text, l.flag
  from ${wanted}
  cross join lateral (
    select coalesce(nullif(count(r.value), 0), count(*)) as count, min(r.value), max(r.value),
      case when max(r.value) < 1e290 and min(r.value) > -1e290 then sum(r.value) filter (where r.value between -1e290 and 1e290) end as sum
    from (
      select e.value from ${readings} e
      where e.device_id = d.device_id and e.metric_id = d.metric_id
        and e.event_time >= d.bucket and e.event_time < d.bucket + interval '10 minutes'
      order by e.event_time, e.ordinal
    ) r
  ) a
  cross join lateral (
    select e.event_time, e.value, e.text, e.flag from ${readings} e
    where e.device_id = d.device_id and e.metric_id = d.metric_id
      and e.event_time >= d.bucket and e.event_time < d.bucket + interval '10 minutes'
    order by e.event_time desc, e.ordinal desc limit 1
  ) l`

/** An hour's sum is that of its sums by 10 minutes. Where some of these hold numbers, the others do not count. */
const hoursOf = (tenMinutes: string) => `
  select d.device_id, d.metric_id, d.bucket, a.count, a.min, a.max, a.sum, l.last_time, l.last_value, l.last_text, l.last_flag
  from ${wanted}
  cross join lateral (
    select coalesce(sum(r.count) filter (where r.max is not null), sum(r.count)) as count, min(r.min), max(r.max),
      case when not coalesce(bool_or(r.max is not null and r.sum is null), false) then sum(r.sum) end as sum
    from (
      select e.count, e.min, e.max, e.sum from ${tenMinutes} e
      where e.device_id = d.device_id and e.metric_id = d.metric_id
        and e.bucket >= d.bucket and e.bucket < d.bucket + interval '1 hour'
      order by e.bucket
    ) r
  ) a
  cross join lateral (
    select e.last_time, e.last_value, e.last_text, e.last_flag from ${tenMinutes} e
    where e.device_id = d.device_id and e.metric_id = d.metric_id
      and e.bucket >= d.bucket and e.bucket < d.bucket + interval '1 hour'
    order by e.bucket desc limit 1
  ) l`

async function computeTenMinutes(
  client: pg.ClientBase,
  readings: Partition | undefined,
  buckets: readonly Bucket[],
): Promise<void> {
  const values = parametersOf(buckets)
  // Its range is gone, and not by the retention, which says so: somebody dropped it by hand, and the rollups are what is left.
  if (readings === undefined) return
  const { rowCount } = await client.query(
    `insert into rollup_10m (${rollupColumns}) ${tenMinutesOf(readings.table)} ${replace}`,
    values,
  )
  if (rowCount === buckets.length) return
  await client.query(
    `delete from rollup_10m r using ${wanted}
      where r.device_id = d.device_id and r.metric_id = d.metric_id and r.bucket = d.bucket and not exists (
        select from ${readings.table} e where e.device_id = d.device_id and e.metric_id = d.metric_id
          and e.event_time >= d.bucket and e.event_time < d.bucket + interval '10 minutes')`,
    values,
  )
}

async function computeHours(client: pg.ClientBase, tenMinutes: Partition, hours: readonly Bucket[]): Promise<void> {
  const values = parametersOf(hours)
  const { rowCount } = await client.query(
    `insert into rollup_1h (${rollupColumns}) ${hoursOf(tenMinutes.table)} ${replace}`,
    values,
  )
  if (rowCount === hours.length) return
  await client.query(
    `delete from rollup_1h r using ${wanted}
      where r.device_id = d.device_id and r.metric_id = d.metric_id and r.bucket = d.bucket and not exists (
        select from ${tenMinutes.table} e where e.device_id = d.device_id and e.metric_id = d.metric_id
          and e.bucket >= d.bucket and e.bucket < d.bucket + interval '1 hour')`,
    values,
  )
}

function parametersOf(buckets: readonly Bucket[]): Buffer[] {
  return [
    int4Array(buckets.map(({ deviceId }) => deviceId)),
    int4Array(buckets.map(({ metricId }) => metricId)),
    timestamptzArray(buckets.map(({ fromUs }) => fromUs)),
  ]
}

function floor(us: number, width: number): number {
  return Math.floor(us / width) * width
}
