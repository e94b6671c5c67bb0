import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import type { Reading, TelemetryEvent } from '#schema/telemetry-event.ts'
import { createPool } from '../store/connect.ts'
import { startPartitions } from '../store/partitions.ts'
import { baseUs, eventOf, randomOf, type StoreDatabase, storeDatabase, TestLog } from '../store/store.fixture.ts'
import type { Store } from '../store/store.ts'
import { type RollupKeeper, startRollupKeeper } from './keeper.ts'
import { rebuildRollups } from './rebuild.ts'
import { computedRollups, storedRollup } from './rollups.fixture.ts'
import { openRanges } from './rollups.ts'

let database: StoreDatabase
beforeEach(async () => {
  database = await storeDatabase()
})
afterEach(async () => {
  await database?.[Symbol.asyncDispose]()
})

const often = { everyMs: 1 }
const seldom = { everyMs: 3_600_000 }
/** The beginning of an hour, yesterday. */
const hour = baseUs - 86_400_000_000
const minute = 60_000_000

async function expectEqualToReadings(): Promise<number> {
  await database.rolledUp()
  const { tenMinutes, hours } = await computedRollups(database)
  expect(await storedRollup(database, 'rollup_10m')).toEqual(tenMinutes)
  expect(await storedRollup(database, 'rollup_1h')).toEqual(hours)
  return tenMinutes.length
}

it('equal a recomputation from the readings, whatever comes late, twice or from two workers at once', async () => {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))
  console.log(`seed ${seed}`)
  const random = randomOf(seed)
  const below = (limit: number) => Math.floor(random() * limit)
  const pick = <Item>(items: readonly Item[]) => items[below(items.length)] as Item
  const sent: TelemetryEvent[] = []
  const randomReading = (): Reading => {
    const value = pick([0.1, 0.2, 0.3, -7.7, 1e16, 1e290, -1.7e308, 1.7e308, 'on', true, 5, 6, 7, 8])
    return {
      metric: pick(['a', 'b', 'c']),
      eventTimeUs: hour + below(2) * 60 * minute + below(7) * 7 * minute - (below(10) === 0 ? 86_400_000_000 : 0),
      ...(typeof value === 'number' ? { value } : typeof value === 'string' ? { text: value } : { flag: value }),
    }
  }
  const randomEvent = (): TelemetryEvent => {
    if (sent.length > 0 && below(4) === 0) return pick(sent)
    const event = eventOf(pick(['d1', 'd2', 'd3']), Array.from({ length: 1 + below(4) }, randomReading))
    sent.push(event)
    return event
  }
  const worker = async (partition: number) => {
    const log = new TestLog('random', partition)
    let store: Store = await database.open({ rollups: often })
    for (let round = 0; round < 120; round++) {
      if (below(30) === 0) {
        await store.close()
        store = await database.open({ rollups: often })
      }
      const slice = log.slice(Array.from({ length: below(12) }, randomEvent))
      await store.write([slice])
      log.nextOffset = slice.nextOffset
    }
    return store
  }
  const stores = await Promise.all([0, 1, 2].map(worker))
  expect(await expectEqualToReadings()).toBeGreaterThan(40)
  for (const store of stores) await store.close()
})

describe('a mark', () => {
  /** Rounds when a test says so. */
  async function keeperAlone(): Promise<RollupKeeper & AsyncDisposable> {
    const opened = new AsyncDisposableStack()
    const options = { databaseUrl: database.url, log: silentLog, onOtherServer: () => {} }
    const [pool, own] = [createPool({ ...options, poolSize: 2 }), createPool({ ...options, poolSize: 1 })]
    opened.defer(async () => void (await Promise.all([pool.end(), own.end()])))
    const readings = opened.use(await startPartitions({ pool, width: 'day', log: silentLog, onMade: () => {} }))
    const tools = await openRanges(opened, { pool, readings, tenMinutes: '400d', hours: 'forever', log: silentLog })
    const metrics = createMetrics('test')
    const keeper = opened.use(startRollupKeeper({ pool: own, tools, log: silentLog, metrics, ...seldom }))
    return { ...keeper, [Symbol.asyncDispose]: () => opened.disposeAsync() }
  }

  /** A writer that stops between its rows and its COMMIT for as long as a test wants. */
  async function held(log: TestLog, store: Store, event: TelemetryEvent): Promise<() => Promise<void>> {
    // The offset's row is ours, so the write waits there, after it has read the epoch.
    await database.sql.query('begin')
    await database.sql.query('select 1 from ingest_offset where stream = $1 for update', [log.stream])
    const written = log.write(store, event)
    await new Promise((resolve) => setTimeout(resolve, 100))
    return async () => {
      await database.sql.query('commit')
      await written
    }
  }

  it('is not taken while a batch leaves its own out on its account', async () => {
    const store = await database.open({ rollups: seldom })
    await using keeper = await keeperAlone()
    const [slow, fast] = [new TestLog('slow'), new TestLog('fast')]
    await slow.write(store, eventOf('d', [{ metric: 'a', value: 1, eventTimeUs: hour }]))
    expect(await keeper.round()).toBe(true)
    // Marked and remembered …
    await fast.write(store, eventOf('d', [{ metric: 'a', value: 2, eventTimeUs: hour + 1 }]))
    // … and a second batch that relies on it.
    const release = await held(slow, store, eventOf('d', [{ metric: 'a', value: 4, eventTimeUs: hour + 2 }]))
    expect(await keeper.round(), 'it waits for the batch').toBe(false)
    await release()
    expect(await database.rows('select count(*)::int as marks from rollup_dirty')).toEqual([{ marks: 1 }])
    expect(await keeper.round()).toBe(true)
    expect(await database.rows('select count, sum from rollup_10m')).toEqual([{ count: 3, sum: 7 }])
    await store.close()
  })

  it('is not left out by a batch that begins after the epoch of it is over', async () => {
    const store = await database.open({ rollups: seldom })
    await using keeper = await keeperAlone()
    const log = new TestLog('after')
    for (const value of [1, 2, 4, 8]) {
      await log.write(store, eventOf('d', [{ metric: 'a', value, eventTimeUs: hour + value }]))
      expect(await keeper.round()).toBe(true)
    }
    expect(await database.rows('select count, sum from rollup_10m')).toEqual([{ count: 4, sum: 15 }])
    await store.close()
  })

  it('is made once an epoch for a bucket that fills', async () => {
    const store = await database.open({ rollups: seldom })
    const log = new TestLog('fill')
    for (let index = 0; index < 50; index++)
      await log.write(store, eventOf('d', [{ metric: 'a', value: index, eventTimeUs: hour + index }]))
    const [{ marks } = { marks: -1 }] = await database.rows<{ marks: number }>(
      'select count(*)::int as marks from rollup_dirty',
    )
    // The first batch does not know the epoch yet; before the first round there is none at all.
    expect(marks).toBeGreaterThan(0)
    expect(marks).toBeLessThan(5)
    await store.close()
  })
})

describe('readings that are past the retention', () => {
  it('leave the rollups of their time as they are', async () => {
    const store = await database.open({ rollups: often })
    const log = new TestLog('kept')
    await log.write(store, eventOf('d', [{ metric: 'a', value: 1, eventTimeUs: hour }]))
    await database.rolledUp()
    await database.sql.query(
      `update rollup_state set readings_from = to_timestamp($1::float8 / 1e6) + interval '1 hour'`,
      [hour],
    )
    await database.sql.query('delete from reading')
    await log.write(
      store,
      eventOf('d', [{ metric: 'a', value: 5, eventTimeUs: hour }]),
      eventOf('d', [{ metric: 'a', value: 6, eventTimeUs: hour + 60 * minute }]),
    )
    await database.rolledUp()
    expect(await database.rows('select sum from rollup_1h order by bucket')).toEqual([{ sum: 1 }, { sum: 6 }])
    await store.close()
  })
})

it('goes on where it stopped, and takes buckets away whose readings are gone', async () => {
  const log = new TestLog('stopped')
  let store = await database.open({ rollups: seldom })
  for (let index = 0; index < 3; index++)
    await log.write(store, eventOf('d', [{ metric: 'a', value: index, eventTimeUs: hour + index * 10 * minute }]))
  await store.close()
  await database.sql.query('update rollup_round set next_at = now()')
  store = await database.open({ rollups: often })
  expect(await expectEqualToReadings()).toBe(3)
  await database.sql.query('delete from reading where value = 1')
  await database.sql.query(
    `insert into rollup_dirty (epoch, device_id, metric_id, bucket) select r.epoch, b.device_id, b.metric_id, b.bucket from rollup_10m b, rollup_round r`,
  )
  expect(await expectEqualToReadings()).toBe(2)
  await store.close()
})

it('are rebuilt for a choice of devices and times, while a worker runs', async () => {
  const store = await database.open({ rollups: often })
  const log = new TestLog('rebuild')
  for (const device of ['d1', 'd2'])
    for (let index = 0; index < 12; index++)
      await log.write(store, eventOf(device, [{ metric: 'a', value: index, eventTimeUs: hour + index * 10 * minute }]))
  await database.rolledUp()
  await database.sql.query('update rollup_10m set sum = -1; update rollup_1h set sum = -1')
  const wrong = async () =>
    database.rows(
      `select external_id as device, count(*)::int as wrong from rollup_10m join device on id = device_id where sum = -1 group by 1`,
    )
  const retention = { reading: '90d', rollup10m: '400d', rollup1h: 'forever' }
  const options = { databaseUrl: database.url, retention, log: silentLog }
  const some = { tenant: 'default', device: 'd1', fromMs: hour / 1000 + 1, toMs: (hour + 60 * minute) / 1000 }
  expect(await rebuildRollups({ ...options, ...some })).toBe(6)
  expect(await wrong()).toEqual([
    { device: 'd1', wrong: 6 },
    { device: 'd2', wrong: 12 },
  ])
  await expect(rebuildRollups({ ...options, tenant: 'default', device: 'none' })).rejects.toMatchObject({
    code: 'BRIDGE_USAGE',
  })
  const shares: number[] = []
  expect(await rebuildRollups({ ...options, onProgress: (_, share) => shares.push(share) })).toBe(24)
  expect(shares.at(-1)).toBe(1)
  expect(await expectEqualToReadings()).toBe(24)
  await store.close()
})
