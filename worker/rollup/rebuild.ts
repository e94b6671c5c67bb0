import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { BridgeError } from '#platform/errors.ts'
import type { Log } from '#platform/log.ts'
import { int4Array } from '../store/array-parameter.ts'
import { type Partition, startPartitions } from '../store/partitions.ts'
import { rangeWidth, retentionMs } from '../store/range-width.ts'
import { type ComputeTools, computeSome } from './compute.ts'
import { beginEpoch } from './keeper.ts'
import { openRanges } from './rollups.ts'

export interface RebuildOptions {
  readonly databaseUrl: string
  /** As in the configuration: `90d`, `400d`, `forever`. */
  readonly retention: { readonly reading: string; readonly rollup10m: string; readonly rollup1h: string }
  readonly tenant?: string | undefined
  readonly device?: string | undefined
  /** Milliseconds since the epoch, from inclusive and to exclusive; widened to whole buckets. */
  readonly fromMs?: number | undefined
  readonly toMs?: number | undefined
  readonly log: Log
  /** After each step: how many buckets of 10 minutes are done, and how much of the work in [0, 1]. */
  readonly onProgress?: (buckets: number, share: number) => void
}

const devicesAtOnce = 100
const marksAtOnce = 1000
const busyPauseMs = 200

/**
 * Marks every bucket of a choice, of readings and of rollups, and computes them, some devices of a range at a time. Safe while workers run: who
 * computes first takes the mark. Buckets whose readings the retention took stay as they are.
 * @returns buckets of 10 minutes
 * @throws BridgeError BRIDGE_USAGE when there is no such device
 */
export async function rebuildRollups(options: RebuildOptions): Promise<number> {
  const { databaseUrl, retention, log, onProgress } = options
  await using opened = new AsyncDisposableStack()
  const pool = new pg.Pool({ connectionString: databaseUrl, max: 3, application_name: 'fleetbridge rollups' })
  pool.on('error', () => {})
  opened.defer(() => pool.end())
  const width = rangeWidth(retentionMs(retention.reading))
  const readings = opened.use(await startPartitions({ pool, width, log, onMade: () => {} }))
  const { rollup10m: tenMinutes, rollup1h: hours } = retention
  const tools = await openRanges(opened, { pool, readings, tenMinutes, hours, log })
  const client = await pool.connect()
  opened.defer(() => client.release())
  const devices = await devicesOf(client, options)
  const ranges = readings.all().filter((range) => overlaps(range, options))
  let buckets = 0
  let steps = 0
  const stepsInAll = ranges.length * Math.ceil(devices.length / devicesAtOnce)
  for (const range of ranges) {
    for (let from = 0; from < devices.length; from += devicesAtOnce) {
      const marked = await mark(client, range, devices.slice(from, from + devicesAtOnce), options)
      if (marked > 0) await computeAll(client, tools)
      buckets += marked
      onProgress?.(buckets, ++steps / stepsInAll)
    }
  }
  return buckets
}

async function devicesOf(client: pg.ClientBase, { tenant, device }: RebuildOptions): Promise<number[]> {
  const { rows } = await client.query<{ id: number }>(
    `select d.id from device d join tenant t on t.id = d.tenant_id
      where ($1::text is null or t.name = $1) and ($2::text is null or d.external_id = $2) order by d.id`,
    [tenant ?? null, device ?? null],
  )
  if (rows.length === 0 && (tenant ?? device) !== undefined)
    throw new BridgeError(
      'BRIDGE_USAGE',
      `there is no device ${device ?? ''} of the tenant ${tenant ?? ''}. npx fleetbridge devices list names them`,
    )
  return rows.map(({ id }) => id)
}

function overlaps({ fromMs, toMs }: Partition, wanted: RebuildOptions): boolean {
  return fromMs < (wanted.toMs ?? Number.POSITIVE_INFINITY) && toMs > (wanted.fromMs ?? Number.NEGATIVE_INFINITY)
}

/** Also those that are only in the rollup: what was computed from readings that are not there any more. */
async function mark(
  client: pg.ClientBase,
  range: Partition,
  devices: readonly number[],
  wanted: RebuildOptions,
): Promise<number> {
  const fromMs = Math.max(range.fromMs, wanted.fromMs ?? Number.NEGATIVE_INFINITY)
  const toMs = Math.min(range.toMs, wanted.toMs ?? Number.POSITIVE_INFINITY)
  const { rowCount } = await client.query(
    `insert into rollup_dirty (epoch, device_id, metric_id, bucket)
      select (select epoch from rollup_round), device_id, metric_id, bucket from (
        select device_id, metric_id, date_bin('10 minutes', event_time, 'epoch'::timestamptz) as bucket from ${range.table}
          where device_id = any($1) and event_time >= date_bin('10 minutes', $2::timestamptz, 'epoch'::timestamptz) and event_time < $3::timestamptz
        union
        select device_id, metric_id, bucket from rollup_10m
          where device_id = any($1) and bucket >= date_bin('10 minutes', $2::timestamptz, 'epoch'::timestamptz) and bucket < $3::timestamptz
      ) b`,
    [int4Array(devices), timeOf(fromMs), timeOf(toMs)],
  )
  return rowCount ?? 0
}

async function computeAll(client: pg.ClientBase, tools: ComputeTools): Promise<void> {
  while (!(await beginEpoch(client, 0))) await sleep(busyPauseMs)
  for (;;) {
    const done = await computeSome(client, tools, marksAtOnce).catch(async (error: unknown) => {
      await client.query('rollback')
      throw error
    })
    if (done === undefined) await sleep(busyPauseMs)
    else if (!done.isMore) return
  }
}

function timeOf(ms: number): string {
  return Number.isFinite(ms) ? new Date(ms).toISOString() : ms < 0 ? '-infinity' : 'infinity'
}
