import pg from 'pg'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { silentLog } from '#platform/log.ts'
import { createPool } from './connect.ts'
import { type Partitions, startPartitions } from './partitions.ts'
import { type RangeWidth, rangeAt } from './range-width.ts'
import { baseUs, eventOf, type StoreDatabase, storeDatabase, TestLog } from './store.fixture.ts'

let database: StoreDatabase
beforeEach(async () => {
  database = await storeDatabase()
})
afterEach(async () => {
  await database?.[Symbol.asyncDispose]()
})

const dayMs = 86_400_000
const dayUs = dayMs * 1000

async function ranges(): Promise<string[]> {
  const rows = await database.rows<{ bound: string }>(
    `select pg_get_expr(c.relpartbound, c.oid) as bound from pg_inherits i join pg_class c on c.oid = i.inhrelid
     where i.inhparent = 'reading'::regclass order by 1`,
  )
  return rows.map(({ bound }) => bound.replaceAll(' 00:00:00+00', '').replaceAll(/FOR VALUES FROM |[()']/g, ''))
}

async function withPartitions(width: RangeWidth, use: (partitions: Partitions) => Promise<void>): Promise<number> {
  let made = 0
  const pool = createPool({ databaseUrl: database.url, poolSize: 2, log: silentLog, onOtherServer: () => {} })
  const partitions = await startPartitions({ pool, width, log: silentLog, onMade: () => made++ })
  try {
    await use(partitions)
  } finally {
    await partitions.close()
    await pool.end()
  }
  return made
}

const shown = (ms: number) => new Date(ms).toISOString().slice(0, 10)

describe.each<RangeWidth>(['day', 'week', 'month'])('ranges of a %s', (width) => {
  it('are made for now and the next two, each in four parts, with boundaries at midnight in UTC', async () => {
    // Whatever time zone the database prints in.
    await database.sql.query(
      `do $$ begin execute format('alter database %I set timezone = ''America/New_York''', current_database()); end $$`,
    )
    expect(await withPartitions(width, async () => {})).toBe(3)
    await database.sql.query(`set timezone = 'UTC'`)
    const expected: string[] = []
    for (let ms = Date.now(), count = 0; count < 3; count++) {
      const { fromMs, toMs } = rangeAt(width, ms)
      expected.push(`${shown(fromMs)} TO ${shown(toMs)}`)
      ms = toMs
    }
    expect(await ranges()).toEqual(expected)
    const [leaves] = await database.rows(
      `select count(*)::int as count, min(level) as level from pg_partition_tree('reading') where isleaf`,
    )
    expect(leaves).toEqual({ count: 12, level: 2 })
    expect(await withPartitions(width, async () => {}), 'a second start finds them').toBe(0)
  })

  it('hold an instant at either end', async () => {
    await withPartitions(width, async (partitions) => {
      const { fromMs, toMs } = rangeAt(width, Date.now())
      const here = partitions.at(fromMs * 1000)
      expect(here).toMatchObject({ fromMs, toMs })
      expect(partitions.at(toMs * 1000 - 1)).toBe(here)
      expect(partitions.at(toMs * 1000)).toMatchObject({ fromMs: toMs })
      expect(partitions.at(fromMs * 1000 - 1)).toBeUndefined()
      await partitions.make([fromMs - 1])
      expect(partitions.at(fromMs * 1000 - 1)).toMatchObject({ toMs: fromMs })
    })
  })
})

it('fills the gap between ranges of another width when the retention was changed', async () => {
  const monday = rangeAt('week', Date.now()).fromMs - 28 * dayMs
  await withPartitions('day', (partitions) => partitions.make([monday + dayMs, monday + 4 * dayMs]))
  await withPartitions('week', async (partitions) => {
    await partitions.make([monday + 2 * dayMs, monday, monday + 6 * dayMs, monday + 7 * dayMs])
  })
  const week = (await ranges()).filter((range) => range < shown(monday + 14 * dayMs))
  const days = [0, 1, 2, 4, 5, 7, 14].map((day) => shown(monday + day * dayMs))
  expect(week).toEqual(days.slice(1).map((day, index) => `${days[index]} TO ${day}`))
})

it('takes another name when a range was detached and kept', async () => {
  const old = Date.now() - 30 * dayMs
  await withPartitions('day', async (partitions) => {
    await partitions.make([old])
    const table = partitions.at(old * 1000)?.table
    await database.sql.query(`alter table reading detach partition ${table}`)
    await partitions.refresh()
    expect(partitions.at(old * 1000)).toBeUndefined()
    await partitions.make([old])
    expect(partitions.at(old * 1000)?.table).toBe(`${table}_2`)
  })
})

it('makes each range once when several processes want it at the same moment', async () => {
  const times = Array.from({ length: 6 }, (_, day) => Date.now() - (10 + day) * dayMs)
  const made = await Promise.all(
    Array.from({ length: 4 }, () => withPartitions('day', (partitions) => partitions.make(times))),
  )
  expect(made.reduce((a, b) => a + b)).toBe(9)
  expect(await ranges()).toHaveLength(9)
})

it('waits for no writer and no reader, nor they for it', async () => {
  await using store = await database.open()
  const log = new TestLog()
  await log.write(store, eventOf('d', [{ metric: 'm', value: 1 }]))
  const other = new pg.Client({ connectionString: database.url })
  await other.connect()
  try {
    await other.query('begin')
    await other.query('select count(*) from reading')
    await other.query('insert into reading select device_id, metric_id, event_time, ingest_time, value, 7 from reading')
    const late = eventOf('d', [{ metric: 'm', value: 2, eventTimeUs: baseUs - 20 * dayUs }])
    expect(await log.write(store, late)).toMatchObject({ stored: 1 })
  } finally {
    await other.end()
  }
})

describe('the store', () => {
  it('makes ranges for late readings within the retention, and none for those past it', async () => {
    await using store = await database.open({ retention: '400d' })
    const before = (await ranges()).length
    const log = new TestLog()
    const at = (days: number) => eventOf('d', [{ metric: 'm', value: days, eventTimeUs: baseUs - days * dayUs }])
    expect(await log.write(store, at(1), at(100), at(399), at(401), at(5000))).toMatchObject({ stored: 3, parked: 2 })
    const widths = (await ranges()).map((range) => {
      const [from, to] = range.split(' TO ') as [string, string]
      return (Date.parse(to) - Date.parse(from)) / dayMs
    })
    expect(new Set(widths)).toEqual(new Set([7]))
    expect(widths.length - before).toBeGreaterThanOrEqual(2)
    expect(widths.length - before).toBeLessThanOrEqual(3)
  })

  it('keeps readings for ever back to 2000, a month a range', async () => {
    await using store = await database.open({ retention: 'forever' })
    const log = new TestLog()
    const at = (time: string) => eventOf('d', [{ metric: 'm', value: 1, eventTimeUs: Date.parse(time) * 1000 }])
    const outcome = await log.write(
      store,
      at('2000-01-01T00:00:00Z'),
      at('1999-12-31T23:59:59Z'),
      at('1970-01-01T00:00:00Z'),
    )
    expect(outcome).toMatchObject({ stored: 1, parked: 2 })
    expect((await ranges())[0]).toBe('2000-01-01 TO 2000-02-01')
  })

  it('goes on when a range is dropped under it', async () => {
    await using store = await database.open()
    const log = new TestLog()
    const at = (value: number) => eventOf('d', [{ metric: 'm', value, eventTimeUs: baseUs - 9 * dayUs + value }])
    await log.write(store, at(1))
    const [row] = await database.rows<{ table: string }>(
      `select c.oid::regclass::text as table from pg_inherits i join pg_class c on c.oid = i.inhrelid
       where i.inhparent = 'reading'::regclass order by 1 limit 1`,
    )
    await database.sql.query(`drop table ${row?.table}`)
    expect(await log.write(store, at(2))).toMatchObject({ stored: 1 })
    expect(await database.rows('select value from telemetry')).toEqual([{ value: 2 }])
  })

  it('makes ranges at a capped rate, so that one device with wild times cannot flood the catalog', async () => {
    await using store = await database.open()
    const log = new TestLog()
    // 32 at once, three of them spent at the start, then 4 a second: 38 more take 2.25 s.
    const events = Array.from({ length: 38 }, (_, day) =>
      eventOf('wild', [{ metric: 'm', value: day, eventTimeUs: baseUs - (day + 1) * dayUs }]),
    )
    const startedAt = performance.now()
    expect(await log.write(store, ...events)).toMatchObject({ stored: 38 })
    expect(performance.now() - startedAt).toBeGreaterThan(1500)
    expect(await ranges()).toHaveLength(41)
  })
})
