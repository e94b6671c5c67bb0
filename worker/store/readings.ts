import type pg from 'pg'
import { ArrayParameter, int4Array } from './array-parameter.ts'
import type { Partition, Partitions } from './partitions.ts'
import type { InstantKey, ReadingPlan } from './reading-plan.ts'

/** Past this Postgres gains nothing more, and one statement stays well within its time limit. */
const maxRows = 5000

const columns = 'device_id, metric_id, event_time, ingest_time, value, clock, flag, text, device_time'
const unnested = `$1::int4[], $2::int4[], $3::timestamptz[], $4::timestamptz[], $5::float8[], $6::int2[], $7::bool[], $8::text[], $9::timestamptz[]`

const insertReadings = `insert into reading (${columns}, ordinal)
  select device_id, metric_id, event_time, ingest_time, value, coalesce(clock, 0), flag, text, device_time, coalesce(ordinal, 0)
  from unnest(${unnested}, $10::int2[]) as r(${columns}, ordinal)`
const insertFreeReadings = `${insertReadings}
  on conflict do nothing`

/** Of equal times the one that comes later in the log wins. */
const upsertLatest = `insert into latest as l (${columns})
  select device_id, metric_id, event_time, ingest_time, value, coalesce(clock, 0), flag, text, device_time
  from unnest(${unnested}) as r(${columns})
  on conflict (device_id, metric_id) do update set
    event_time = excluded.event_time, ingest_time = excluded.ingest_time, value = excluded.value, clock = excluded.clock,
    flag = excluded.flag, text = excluded.text, device_time = excluded.device_time
  where l.event_time <= excluded.event_time`

/** Sends the inserts of a plan whose keys are taken to be free: a quarter cheaper for Postgres than asking each, and a taken one is an error. */
export function sendReadings(client: pg.ClientBase, plan: ReadingPlan): Promise<unknown>[] {
  return [...plan.readingParameters(maxRows)].map(({ values }) =>
    client.query({ name: 'readings', text: insertReadings, values }),
  )
}

/** The same where somebody may take a key meanwhile. Each resolves to whether all its rows went in. */
export function sendFreeReadings(client: pg.ClientBase, plan: ReadingPlan): Promise<boolean>[] {
  return [...plan.readingParameters(maxRows)].map(async ({ rows, values }) => {
    const { rowCount } = await client.query({ name: 'free_readings', text: insertFreeReadings, values })
    return rowCount === rows
  })
}

export function sendLatest(client: pg.ClientBase, plan: ReadingPlan): Promise<unknown>[] {
  const sent: Promise<unknown>[] = []
  for (const values of plan.latestParameters(maxRows))
    sent.push(client.query({ name: 'latest', text: upsertLatest, values }))
  return sent
}

/** Tells the plan which rows the table holds at its instants. */
export async function readExisting(client: pg.ClientBase, plan: ReadingPlan, partitions: Partitions): Promise<void> {
  const byPartition = new Map<Partition, InstantKey[]>()
  for (const key of plan.instants()) {
    // A range that is gone holds nothing; the insert will say so.
    const partition = partitions.at(key.eventTimeUs)
    if (partition === undefined) continue
    const keys = byPartition.get(partition)
    if (keys === undefined) byPartition.set(partition, [key])
    else keys.push(key)
  }
  for (const [{ table }, keys] of byPartition)
    for (let from = 0; from < keys.length; from += maxRows)
      await readPart(client, plan, table, keys.slice(from, from + maxRows))
}

interface ExistingRow {
  readonly at: string
  readonly ordinal: number
  readonly value: number | null
  readonly text: string | null
  readonly flag: boolean | null
}

/**
 * Straight from the range's table: over all of `reading` the planner would open every partition.
 * OFFSET 0 keeps it from joining otherwise than by one index look-up a key.
 */
async function readPart(client: pg.ClientBase, plan: ReadingPlan, table: string, keys: InstantKey[]): Promise<void> {
  const times = ArrayParameter.timestamptz(keys.length)
  for (const { eventTimeUs } of keys) times.time(eventTimeUs)
  const { rows } = await client.query<ExistingRow>(
    `select k.at, r.ordinal, r.value, r.text, r.flag
      from unnest($1::int4[], $2::int4[], $3::timestamptz[]) with ordinality as k(device_id, metric_id, event_time, at)
      cross join lateral (
        select ordinal, value, text, flag from ${table} e
        where e.device_id = k.device_id and e.metric_id = k.metric_id and e.event_time = k.event_time offset 0
      ) r`,
    [int4Array(keys.map(({ deviceId }) => deviceId)), int4Array(keys.map(({ metricId }) => metricId)), times.end()],
  )
  for (const { at, ordinal, value, text, flag } of rows)
    plan.know(keys[Number(at) - 1] as InstantKey, ordinal, (value ?? text ?? flag) as number | string | boolean)
}
