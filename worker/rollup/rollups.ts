import type pg from 'pg'
import type { Handle } from '#platform/handle.ts'
import { handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'
import type { Metrics } from '#platform/metrics.ts'
import { createPool } from '../store/connect.ts'
import { type Partitions, startPartitions } from '../store/partitions.ts'
import { rangeWidth, retentionMs } from '../store/range-width.ts'
import type { ComputeTools } from './compute.ts'
import { startFleetHours } from './fleet-hours.ts'
import { startRollupKeeper } from './keeper.ts'

export interface RollupOptions {
  /** `400d` or `forever`: how long rollups by 10 minutes are kept, and how wide their partitions are. */
  readonly tenMinutes: string
  /** The same of rollups by hours. */
  readonly hours: string
  /** Between two rounds of computing, at least. */
  readonly everyMs: number
}

export interface StartRollupsOptions {
  readonly databaseUrl: string
  /** For making partitions. */
  readonly pool: pg.Pool
  readonly readings: Partitions
  readonly rollups?: Partial<RollupOptions> | undefined
  readonly log: Log
  readonly metrics: Metrics
}

/** Makes the rollups' ranges ahead, and keeps their rows. */
export async function startRollups({
  databaseUrl,
  pool,
  readings,
  rollups: { tenMinutes = '400d', hours = 'forever', everyMs = 10_000 } = {},
  log,
  metrics,
}: StartRollupsOptions): Promise<Handle> {
  await using opened = new AsyncDisposableStack()
  const tools = await openRanges(opened, { pool, readings, tenMinutes, hours, log })
  // Of its own: batches must not wait for a connection that computes.
  const own = createPool({ databaseUrl, poolSize: 1, name: 'fleetbridge rollups', log, onOtherServer: () => {} })
  opened.defer(() => own.end())
  opened.use(startRollupKeeper({ pool: own, tools, log, metrics, everyMs }))
  opened.use(startFleetHours({ pool: own, log }))
  const resources = opened.move()
  return handleOf(() => resources.disposeAsync())
}

export interface RangesOptions extends Pick<RollupOptions, 'tenMinutes' | 'hours'> {
  readonly pool: pg.Pool
  readonly readings: Partitions
  readonly log: Log
}

/** What computing needs. The ranges are closed with `opened`. */
export async function openRanges(
  opened: AsyncDisposableStack,
  { pool, readings, tenMinutes, hours, log }: RangesOptions,
): Promise<ComputeTools> {
  const ranges = (table: 'rollup_10m' | 'rollup_1h', retention: string) =>
    startPartitions({ pool, table, width: rangeWidth(retentionMs(retention)), log, onMade: () => {} })
  const kept = retentionMs(tenMinutes)
  return {
    readings,
    tenMinutes: opened.use(await ranges('rollup_10m', tenMinutes)),
    hours: opened.use(await ranges('rollup_1h', hours)),
    tenMinutesFromUs: () => (kept === undefined ? Number.NEGATIVE_INFINITY : (Date.now() - kept) * 1000),
  }
}
