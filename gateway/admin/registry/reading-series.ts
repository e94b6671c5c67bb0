import type { Client } from './change.ts'
import { type ReadingFilter, seriesOf } from './read-telemetry.ts'
import { invalid } from './refusal.ts'

/** What one metric was in one step. */
export interface SeriesRow {
  /** The first instant of the step. */
  readonly time: string
  readonly unit: string | null
  /** Of its numbers; where there is none, of its texts and flags. */
  readonly count: number
  readonly min: number | null
  readonly max: number | null
  readonly avg: number | null
  readonly sum: number | null
  /** The newest: a number, text or flag. */
  readonly last: number | string | boolean
}

export interface Series {
  readonly rows: readonly SeriesRow[]
  /** The table that was read. */
  readonly source: 'reading' | 'rollup_10m' | 'rollup_1h'
}

export const maxSteps = 10_000

/** The widest rollup whose buckets make up whole steps. */
const rollups = [
  { table: 'rollup_1h', widthMs: 3_600_000 },
  { table: 'rollup_10m', widthMs: 600_000 },
] as const

const epoch = `timestamptz 'epoch'`
const aggregates = `coalesce(nullif(count(value), 0), count(*))::int AS count, min(value) AS min, max(value) AS max, sum(value) AS sum,
  (array_agg(value ORDER BY event_time DESC, ordinal DESC))[1] AS last_value, (array_agg(text ORDER BY event_time DESC, ordinal DESC))[1] AS last_text,
  (array_agg(flag ORDER BY event_time DESC, ordinal DESC))[1] AS last_flag`

/**
 * One metric in steps that lie at whole multiples of `stepMs` since the epoch; steps without a reading are left out. The first and the last are whole,
 * also where the range begins or ends inside them. Rollups are read where they have whole steps; buckets that wait to be computed again are read
 * from `reading`, so the answer is what was stored at this moment in either case.
 * @throws BridgeError BRIDGE_USAGE for more than 10,000 steps
 */
export async function readingSeries(client: Client, filter: ReadingFilter, stepMs: number): Promise<Series> {
  const fromMs = Math.floor(filter.from.getTime() / stepMs) * stepMs
  const toMs = Math.ceil(filter.to.getTime() / stepMs) * stepMs
  if ((toMs - fromMs) / stepMs > maxSteps)
    throw invalid(`the range holds more than ${maxSteps} steps; take a wider step or a shorter range`)
  const { deviceId, tenantId, metricIds } = await seriesOf(client, filter)
  const rollup = rollups.find(({ widthMs }) => stepMs % widthMs === 0)
  const isKept = rollup !== undefined && (await hasRollups(client, tenantId))
  const range = [deviceId, metricIds, new Date(fromMs), new Date(toMs), stepMs / 1000]
  const step = `date_bin(make_interval(secs => $5), %, ${epoch})`
  const { rows } = await client.query<SeriesRow>(
    isKept
      ? // A bucket that is marked may not be what `reading` says now; the mark is there as long as that is so (worker/rollup/marks.ts).
        `WITH marked AS MATERIALIZED (
           SELECT DISTINCT metric_id, date_bin(make_interval(secs => $6), bucket, ${epoch}) AS bucket FROM rollup_dirty
           WHERE device_id = $1 AND metric_id = ANY($2) AND bucket >= $3 AND bucket < $4
         ), parts AS (
           SELECT metric_id, bucket, count, min, max, sum, last_time, last_value, last_text, last_flag FROM ${rollup.table} r
           WHERE device_id = $1 AND metric_id = ANY($2) AND bucket >= $3 AND bucket < $4
             AND NOT EXISTS (SELECT FROM marked WHERE marked.metric_id = r.metric_id AND marked.bucket = r.bucket)
           UNION ALL
           SELECT marked.metric_id, marked.bucket, a.count, a.min, a.max, a.sum, a.last_time, a.last_value, a.last_text, a.last_flag
           FROM marked CROSS JOIN LATERAL (
             SELECT ${aggregates}, max(event_time) AS last_time FROM reading
             WHERE device_id = $1 AND metric_id = marked.metric_id AND event_time >= marked.bucket
               AND event_time < marked.bucket + make_interval(secs => $6)
             HAVING count(*) > 0
           ) a
         )
         ${shown(`SELECT metric_id, ${step.replace('%', 'bucket')} AS step,
           coalesce(sum(count) FILTER (WHERE max IS NOT NULL), sum(count))::int AS count, min(min) AS min, max(max) AS max, sum(sum) AS sum,
           (array_agg(last_value ORDER BY last_time DESC))[1] AS last_value, (array_agg(last_text ORDER BY last_time DESC))[1] AS last_text,
           (array_agg(last_flag ORDER BY last_time DESC))[1] AS last_flag
         FROM parts GROUP BY metric_id, step`)}`
      : shown(
          `SELECT metric_id, ${step.replace('%', 'event_time')} AS step, ${aggregates} FROM reading
           WHERE device_id = $1 AND metric_id = ANY($2) AND event_time >= $3 AND event_time < $4 GROUP BY metric_id, step`,
        ),
    isKept ? [...range, rollup.widthMs / 1000] : range,
  )
  return { rows, source: isKept ? rollup.table : 'reading' }
}

const shown = (grouped: string) =>
  `SELECT to_char(s.step AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS time, m.unit, s.count, s.min, s.max,
     CASE WHEN s.max IS NOT NULL THEN s.sum / s.count END AS avg, s.sum,
     coalesce(to_json(s.last_value), to_json(s.last_text), to_json(s.last_flag)) AS last
   FROM (${grouped}) s JOIN metric m ON m.id = s.metric_id ORDER BY s.step, m.id`

/** Whether the worker has computed any for the tenant. */
async function hasRollups(client: Client, tenantId: number): Promise<boolean> {
  const { rows } = await client.query<{ kept: boolean }>(
    'SELECT EXISTS (SELECT FROM rollup_state WHERE tenant_id = $1 AND processed_until IS NOT NULL) AS kept',
    [tenantId],
  )
  return rows[0]?.kept === true
}
