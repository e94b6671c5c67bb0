import type { Pool } from 'pg'
import { type Comparison, compareDevice, emptyComparison, type StoredReading } from './compare.ts'
import type { Journal } from './journal.ts'
import type { PayloadMaker } from './payload.ts'
import { microsOf, timestampOf } from './sql-times.ts'

export interface SentByFleet {
  readonly journal: Journal
  readonly payloads: PayloadMaker
  readonly names: readonly string[]
  /** Row ids of the devices, in the journal's order. */
  readonly deviceIds: readonly number[]
  /** Start of the run: rows before it are of earlier runs. */
  readonly fromUs: number
}

export interface Settling {
  /** Rows of the number metric when sending had ended, and when they had settled. */
  readonly storedAtEnd: number
  readonly stored: number
  /** Milliseconds from the end of sending until every acknowledged message had its row; null when that did not come about. */
  readonly settledAfterMs: number | null
}

const pollMs = 250
/** Rows that are compared at a time; they are in memory meanwhile. */
const rowsAtOnce = 200_000

export interface SettleLimits {
  /** Rows that have to come: one a message. */
  readonly wanted: number
  /** Enough rows are there, and for this long no other came: rows of unacknowledged messages and doubled ones may still be on their way. */
  readonly calmMs: number
  /** Rows are missing and none came for this long: they will not come any more. */
  readonly quietMs: number
  readonly timeoutMs: number
}

/** Waits until the rows of the number metric have settled; a database that is away meanwhile is asked again. */
export async function waitForRows(pool: Pool, sent: SentByFleet, limits: SettleLimits): Promise<Settling> {
  const start = performance.now()
  let storedAtEnd = -1
  let stored = 0
  let lastGrowthMs = start
  let settledAfterMs: number | null = null
  for (;;) {
    const before = stored
    let failure: unknown
    try {
      stored = await countNumbers(pool, sent)
      if (storedAtEnd < 0) storedAtEnd = stored
    } catch (error) {
      failure = error
    }
    const now = performance.now()
    if (stored !== before || failure !== undefined) lastGrowthMs = now
    if (stored >= limits.wanted && failure === undefined) {
      settledAfterMs ??= now - start
      if (now - lastGrowthMs >= limits.calmMs) return { storedAtEnd, stored, settledAfterMs }
    }
    if (now - lastGrowthMs > limits.quietMs) return { storedAtEnd, stored, settledAfterMs }
    if (now - start > limits.timeoutMs) {
      if (failure !== undefined) throw failure
      return { storedAtEnd, stored, settledAfterMs }
    }
    await new Promise((resolve) => setTimeout(resolve, pollMs))
  }
}

/** Compares everything that was sent with everything that is stored, device by device, some devices a query. */
export async function compareRows(pool: Pool, sent: SentByFleet): Promise<Comparison> {
  const { journal, payloads, names, deviceIds } = sent
  const result = emptyComparison()
  const metricIds = await metricIdsOf(pool, payloads.metrics)
  for (let from = 0; from < deviceIds.length; ) {
    let to = from
    let expected = 0
    do expected += journal.count(to++) * payloads.metrics.length
    while (to < deviceIds.length && expected < rowsAtOnce)
    const rows = await readingsOf(pool, deviceIds.slice(from, to), metricIds, sent.fromUs)
    for (let index = from; index < to; index++)
      compareDevice(
        result,
        { index, name: names[index] as string },
        { journal, payloads },
        rows.get(deviceIds[index] as number) ?? [],
      )
    from = to
  }
  return result
}

async function countNumbers(pool: Pool, sent: SentByFleet): Promise<number> {
  const { rows } = await pool.query<{ count: string }>(
    `SELECT count(*) FROM reading WHERE device_id = ANY ($1::int[]) AND event_time >= ${timestampOf('$3')}
       AND metric_id IN (SELECT id FROM metric WHERE name = $2)`,
    [sent.deviceIds, sent.payloads.metrics[0], sent.fromUs],
  )
  return Number(rows[0]?.count ?? 0)
}

/** A metric's name has an id for each tenant and unit. @returns id → index in `metrics` */
async function metricIdsOf(pool: Pool, metrics: readonly string[]): Promise<Map<number, number>> {
  const { rows } = await pool.query<{ id: number; name: string }>(
    'SELECT id, name FROM metric WHERE name = ANY ($1::text[])',
    [metrics],
  )
  return new Map(rows.map(({ id, name }) => [id, metrics.indexOf(name)]))
}

async function readingsOf(
  pool: Pool,
  deviceIds: readonly number[],
  metricIds: ReadonlyMap<number, number>,
  fromUs: number,
): Promise<Map<number, StoredReading[]>> {
  const { rows } = await pool.query<[number, number, number, number | null]>({
    text: `SELECT device_id, metric_id, ${microsOf('event_time')}, value FROM reading
           WHERE device_id = ANY ($1::int[]) AND metric_id = ANY ($2::int[]) AND event_time >= ${timestampOf('$3')}`,
    values: [deviceIds, [...metricIds.keys()], fromUs],
    rowMode: 'array',
  })
  const byDevice = new Map<number, StoredReading[]>()
  for (const [deviceId, metricId, eventTimeUs, value] of rows) {
    let readings = byDevice.get(deviceId)
    if (readings === undefined) {
      readings = []
      byDevice.set(deviceId, readings)
    }
    readings.push({ metric: metricIds.get(metricId) as number, eventTimeUs, value })
  }
  return byDevice
}
