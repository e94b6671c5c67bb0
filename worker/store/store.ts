import type pg from 'pg'
import { BridgeError } from '#platform/errors.ts'
import { type Handle, handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'
import { type Metrics, secondsBounds, sizeBounds } from '#platform/metrics.ts'
import type { DeviceEventRecord } from '#schema/device-event.ts'
import { startDailyRetention } from '../retention/daily.ts'
import { RollupMarks } from '../rollup/marks.ts'
import { type RollupOptions, startRollups } from '../rollup/rollups.ts'
import { createPool } from './connect.ts'
import { writeDeviceEvents } from './device-events.ts'
import { NameCache } from './names.ts'
import { readOffsets } from './offsets.ts'
import { startOldDeadLetters } from './old-dead-letters.ts'
import { startPartitions } from './partitions.ts'
import { missingTimes, type Prepared, prepare } from './prepare.ts'
import { rangeWidth, retentionMs } from './range-width.ts'
import { startRawDays } from './raw-days.ts'
import { rawDaysOf } from './raw-messages.ts'
import { startRecentDays } from './recent-days.ts'
import { isDanglingName, isMissingPartition, isRefusedRow, isTransient } from './sql-state.ts'
import type { StoreOutcome, StreamSlice } from './stream-slice.ts'
import { runTransaction, TooManyConflicts, type TransactionTools } from './transaction.ts'

export interface StoreOptions {
  readonly databaseUrl: string
  readonly poolSize: number
  /** `90d` or `forever`: how old readings may be, and how wide the partitions are. */
  readonly retention: string
  /** `2d`: how long names of messages are remembered. */
  readonly recentMessages?: string
  /** `90d` or `forever`: how long dead letters are kept. */
  readonly deadLetters?: string
  /** Whether this process takes away once a day what is past its retention; not when absent. */
  readonly isKeeper?: boolean
  /** Of which kinds of device events the webhook hears; absent: there is none. */
  readonly webhookKinds?: readonly string[]
  /** How long rollups are kept, and how often they are computed. */
  readonly rollups?: Partial<RollupOptions> | undefined
  readonly log: Log
  readonly metrics: Metrics
}

export interface Store extends Handle {
  /**
   * Makes slices of the event log into rows, all in one transaction with their offsets: it happens once or not at all.
   * Rows that Postgres refuses are parked with their neighbours written.
   * @throws BridgeError BRIDGE_OFFSET_FENCED when a partition is not where its slice begins: read the offsets again. Every other error
   *   means that the outcome is unknown (a connection that broke during COMMIT) or that nothing was written; `offsets` tells which
   */
  write(slices: readonly StreamSlice[]): Promise<StoreOutcome>
  /** Makes device events rows that come by no event log; they may come again. @throws when the outcome is unknown, or nothing was written */
  writeDeviceEvents(records: readonly DeviceEventRecord[]): Promise<void>
  /** Where each partition goes on; one that was never written is absent. */
  offsets(stream: string, partitions: readonly number[]): Promise<Map<number, number>>
  /** Resolves when the database answers. */
  ping(): Promise<void>
  /** The process's own, for what writes through this store. */
  readonly log: Log
  /** Told of every write after its commit. */
  onStored: ((slices: readonly StreamSlice[], outcome: StoreOutcome) => void) | undefined
}

/** Batches in a row that look before they insert, after one that had to. A fleet with coarse clocks would else insert everything twice. */
const carefulBatches = 20
const maxAttempts = 12

/** Opens the connections and makes the partitions of today and the next ranges. The schema is there (platform/migrate.ts). */
export async function startStore({
  databaseUrl,
  poolSize,
  retention,
  recentMessages = '2d',
  deadLetters = 'forever',
  isKeeper = false,
  webhookKinds = [],
  rollups,
  log,
  metrics,
}: StoreOptions): Promise<Store> {
  const counters = registerMetrics(metrics)
  const keepMs = retentionMs(retention)
  const retentionUs = keepMs === undefined ? undefined : keepMs * 1000
  const cache = new NameCache()
  // A restored database, or a standby that lacks the last commits, may have given the numbers that we remember to others.
  const marks = new RollupMarks()
  const onOtherServer = () => {
    cache.clear()
    marks.clear()
  }
  const pool = createPool({ databaseUrl, poolSize, log, onOtherServer })
  await using opened = new AsyncDisposableStack()
  opened.defer(() => pool.end())
  const partitions = opened.use(
    await startPartitions({ pool, width: rangeWidth(keepMs), log, onMade: () => counters.partitions.inc() }),
  )
  const recentDays = opened.use(await startRecentDays({ pool, keepDays: Number.parseInt(recentMessages, 10), log }))
  const rawDays = opened.use(await startRawDays(pool, log))
  opened.use(startOldDeadLetters(pool, retentionMs(deadLetters), log))
  opened.use(await startRollups({ databaseUrl, pool, readings: partitions, rollups, log, metrics }))
  if (isKeeper) {
    const { tenMinutes: rollup10m = 'forever', hours: rollup1h = 'forever' } = rollups ?? {}
    opened.use(startDailyRetention({ databaseUrl, kept: { reading: retention, rollup10m, rollup1h }, log }))
  }
  const tools: TransactionTools = { cache, partitions, marks, deviceEvents: { webhookKinds } }
  let careful = 0
  let inHand = 0
  let idle: (() => void) | undefined
  let closing = false

  const attempt = async (batch: Prepared, carefully: boolean): Promise<StoreOutcome> => {
    const client = await pool.connect()
    let broken: boolean | Error = false
    try {
      return await runTransaction(client, batch, tools, carefully)
    } catch (error) {
      broken = !(await rolledBack(client))
      throw error
    } finally {
      client.release(broken)
    }
  }

  const writeAll = async (slices: readonly StreamSlice[]): Promise<StoreOutcome> => {
    const batch = prepare(slices, retentionUs)
    for (let attempts = 1; ; attempts++) {
      const missing = missingTimes(batch.messages, partitions)
      if (missing.size > 0) await partitions.make(missing)
      if (batch.isAnyRaw) await rawDays.make(rawDaysOf(batch.messages))
      const carefully = careful > 0
      try {
        const outcome = await attempt(batch, carefully)
        if (careful > 0) careful--
        counters.observe(batch, outcome)
        return outcome
      } catch (error) {
        if (attempts === maxAttempts) throw error
        if (isMissingPartition(error))
          await Promise.all([partitions.refresh(), recentDays.refresh(), rawDays.refresh()])
        else if (isDanglingName(error)) cache.clear()
        else if (!carefully && isRefusedRow(error)) careful = carefulBatches
        else if (isTransient(error) || error instanceof TooManyConflicts) await pause(attempts)
        else throw error
      }
    }
  }

  const store: Omit<Store, keyof Handle> = {
    log,
    onStored: undefined,
    async write(slices) {
      if (closing) throw new BridgeError('BRIDGE_EVENT_LOG_UNAVAILABLE', 'the store is closed')
      if (slices.length === 0) return { stored: 0, duplicate: 0, parked: 0, readings: 0 }
      inHand++
      const startedAt = performance.now()
      try {
        const outcome = await writeAll(slices)
        counters.seconds.observe((performance.now() - startedAt) / 1000)
        handle.onStored?.(slices, outcome)
        return outcome
      } finally {
        inHand--
        if (inHand === 0) idle?.()
      }
    },
    async writeDeviceEvents(records) {
      for (let attempts = 1; ; attempts++) {
        const client = await pool.connect()
        let broken = false
        try {
          await client.query('begin')
          const fresh = await writeDeviceEvents(client, records, tools.deviceEvents)
          await client.query('commit')
          counters.deviceEvents.inc(fresh)
          return
        } catch (error) {
          broken = !(await rolledBack(client))
          if (!isTransient(error) || attempts === maxAttempts) throw error
        } finally {
          client.release(broken)
        }
        await pause(attempts)
      }
    },
    offsets: (stream, numbers) => readOffsets(pool, stream, numbers),
    async ping() {
      await pool.query('select 1')
    },
  }
  const resources = opened.move()
  const handle: Store = Object.assign(
    store,
    handleOf(async () => {
      closing = true
      if (inHand > 0) await new Promise<void>((resolve) => (idle = resolve))
      await resources.disposeAsync()
    }),
  )
  return handle
}

/** False when the connection cannot be used any more. */
async function rolledBack(client: pg.ClientBase): Promise<boolean> {
  try {
    await client.query('rollback')
    return true
  } catch {
    return false
  }
}

/** Two that fell out with each other do not come back at the same moment. */
function pause(attempts: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.random() * Math.min(500, 10 * 2 ** attempts)))
}

function registerMetrics(metrics: Metrics) {
  const messages = metrics.counter(
    'fleetbridge_stored_messages_total',
    'Accepted messages by what became of them: rows, nothing new, a dead letter',
    ['result'],
    [{ result: 'stored' }, { result: 'duplicate' }, { result: 'parked' }],
  )
  const readings = metrics.counter('fleetbridge_stored_readings_total', 'Rows of reading')
  const partitions = metrics.counter('fleetbridge_partitions_made_total', 'Ranges of partitions made')
  const batchMessages = metrics.histogram('fleetbridge_store_batch_messages', 'Messages of one transaction', sizeBounds)
  const seconds = metrics.histogram(
    'fleetbridge_store_duration_seconds',
    'From a batch in hand to its commit, with its retries',
    secondsBounds,
  )
  const deviceEvents = metrics.counter('fleetbridge_device_events_stored_total', 'Rows of device_event from gateways')
  let newestUs = 0
  metrics.gauge(
    'fleetbridge_stored_age_seconds',
    'Since the arrival of the newest stored message; 0 before the first',
    () => (newestUs === 0 ? 0 : Math.max(0, Date.now() / 1000 - newestUs / 1e6)),
  )
  return {
    partitions,
    seconds,
    deviceEvents,
    observe(
      batch: Prepared,
      { stored, duplicate, parked, readings: rows, deviceEvents: events = 0 }: StoreOutcome,
    ): void {
      if (events > 0) deviceEvents.inc(events)
      if (stored > 0) messages.inc({ result: 'stored' }, stored)
      if (duplicate > 0) messages.inc({ result: 'duplicate' }, duplicate)
      if (parked > 0) messages.inc({ result: 'parked' }, parked)
      readings.inc(rows)
      batchMessages.observe(stored + duplicate + parked)
      if (batch.newestIngestTimeUs > newestUs) newestUs = batch.newestIngestTimeUs
    },
  }
}
