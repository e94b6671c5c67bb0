import pg from 'pg'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  baseUs,
  deadLetterOf,
  eventOf,
  eventually,
  type StoreDatabase,
  storeDatabase,
  TestLog,
} from './store.fixture.ts'
import type { Store } from './store.ts'
import { startProxy } from './store-proxy.fixture.ts'

let database: StoreDatabase
let store: Store
beforeEach(async () => {
  database = await storeDatabase()
  store = await database.open()
})
afterEach(async () => {
  await store?.close()
  await database?.[Symbol.asyncDispose]()
})

/** Everything that the tables hold. */
const contents = async () => ({
  readings: await database.rows('select device, metric, value from telemetry order by 1, 2, 3'),
  latest: await database.rows('select device, metric, value from telemetry_latest order by 1, 2'),
  letters: await database.rows('select id from dead_letter order by 1'),
  offsets: await database.rows(
    'select next_offset::int, stored::int, duplicate::int, parked::int, readings::int from ingest_offset',
  ),
})

/** Backends of the store that wait for a lock. */
const waiting = async () =>
  (
    await database.rows<{ pid: number }>(
      `select pid from pg_stat_activity where datname = current_database() and application_name = 'fleetbridge store'
       and wait_event_type = 'Lock'`,
    )
  ).map(({ pid }) => pid)

describe('a connection that is killed', () => {
  it.each(['device', 'metric', 'reading', 'latest', 'dead_letter', 'ingest_offset'])(
    'at the statement on %s leaves nothing, and the same again makes each row once',
    async (table) => {
      const log = new TestLog()
      await log.write(store, eventOf('d', [{ metric: 'm', value: 0 }]))
      const before = await contents()
      const items = [
        eventOf('d', [{ metric: 'm', value: 1, eventTimeUs: baseUs + 1 }]),
        eventOf('new', [{ metric: 'new', value: 2 }]),
        eventOf('d', [{ metric: 'm', value: 0 }]),
        deadLetterOf(),
      ]
      const blocker = new pg.Client({ connectionString: database.url })
      await blocker.connect()
      try {
        await blocker.query('begin')
        // SELECT passes, so that the store gets as far as its own write to this table.
        await blocker.query(`lock table ${table} in share mode`)
        const writing = log.write(store, ...items)
        const failed = expect(writing).rejects.toThrow(/terminat/)
        await eventually(async () => (await waiting()).length, 1)
        await blocker.query('select pg_terminate_backend($1)', [(await waiting())[0]])
        await failed
      } finally {
        await blocker.end()
      }
      expect(await contents(), 'nothing of it is there').toEqual(before)
      expect(await store.offsets('test', [0])).toEqual(new Map([[0, 1]]))
      expect(await log.write(store, ...items)).toEqual({ stored: 2, duplicate: 1, parked: 1, readings: 2 })
      const after = await contents()
      expect(after.readings.map(({ device, value }) => [device, value])).toEqual([
        ['d', 0],
        ['d', 1],
        ['new', 2],
      ])
      expect(after.letters).toHaveLength(1)
      expect(after.offsets).toEqual([{ next_offset: 5, stored: 3, duplicate: 1, parked: 1, readings: 3 }])
    },
  )

  it('before COMMIT is done leaves nothing', async () => {
    const log = new TestLog()
    await log.write(store, eventOf('d', [{ metric: 'm', value: 0 }]))
    const before = await contents()
    // A deferred trigger runs within COMMIT.
    await database.sql.query(`
      create function hold() returns trigger language plpgsql as $$ begin perform pg_advisory_xact_lock(42); return null; end $$;
      create constraint trigger hold after update on ingest_offset deferrable initially deferred for each row execute function hold()`)
    await database.sql.query('select pg_advisory_lock(42)')
    const event = eventOf('new', [{ metric: 'new', value: 1 }])
    const failed = expect(log.write(store, event)).rejects.toThrow(/terminat/)
    await eventually(async () => (await waiting()).length, 1)
    await database.sql.query('select pg_terminate_backend($1)', [(await waiting())[0]])
    await failed
    await database.sql.query('select pg_advisory_unlock(42)')
    expect(await contents()).toEqual(before)
    expect(await log.write(store, event)).toMatchObject({ stored: 1, readings: 1 })
    expect((await contents()).readings.at(-1)).toEqual({ device: 'new', metric: 'new', value: 1 })
  })

  it('after COMMIT is told by the offset: nothing is written twice', async () => {
    await using proxy = await startProxy(database.url)
    await using through = await database.open({ url: proxy.url })
    const log = new TestLog()
    await log.write(through, eventOf('d', [{ metric: 'm', value: 0 }]))
    proxy.cutAtCommit()
    const event = eventOf('d', [{ metric: 'm', value: 1 }])
    await expect(log.write(through, event)).rejects.toThrow()
    expect(proxy.cuts()).toBe(1)
    expect(await through.offsets('test', [0]), 'it was committed').toEqual(new Map([[0, 2]]))
    await expect(log.write(through, event)).rejects.toMatchObject({ code: 'BRIDGE_OFFSET_FENCED' })
    expect((await contents()).readings).toHaveLength(2)
  })

  it('does not harm the connections that idle meanwhile', async () => {
    const log = new TestLog()
    await log.write(store, eventOf('d', [{ metric: 'm', value: 0 }]))
    await database.sql.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'fleetbridge store'`,
    )
    await eventually(async () => {
      try {
        await store.ping()
        return true
      } catch {
        return false
      }
    }, true)
    expect(await log.write(store, eventOf('d', [{ metric: 'm', value: 1 }]))).toMatchObject({ stored: 1 })
  })
})

describe('two stores', () => {
  it('fight over one partition: each slice is written once, the other writer is fenced', async () => {
    await using rival = await database.open()
    let fenced = 0
    const run = async (own: Store) => {
      for (;;) {
        const from = (await own.offsets('shared', [0])).get(0) ?? 0
        if (from >= 300) return
        // Both read the same log: what lies at an offset is the same for both.
        const size = 1 + (from % 7)
        const events = Array.from({ length: size }, (_, index) =>
          eventOf('d', [{ metric: 'm', value: from + index, eventTimeUs: baseUs + from + index }]),
        )
        try {
          await own.write([new TestLog('shared', 0, from).slice(events)])
        } catch (error) {
          expect(error).toMatchObject({ code: 'BRIDGE_OFFSET_FENCED' })
          fenced++
        }
      }
    }
    await Promise.all([run(store), run(rival)])
    expect(fenced).toBeGreaterThan(0)
    const { readings, offsets } = await contents()
    const end = offsets[0]?.next_offset as number
    expect(readings.map(({ value }) => value)).toEqual(Array.from({ length: end }, (_, value) => value))
    expect(offsets).toEqual([{ next_offset: end, stored: end, duplicate: 0, parked: 0, readings: end }])
  })

  it('write other messages from the same offset at once: only those of one become rows', async () => {
    await using rival = await database.open()
    const log = new TestLog('torn')
    const event = (value: number) => eventOf(`d${value % 2}`, [{ metric: 'm', value, eventTimeUs: baseUs + value }])
    await log.write(store, event(0), event(1))
    const won: number[] = []
    for (let value = 2; value < 62; value += 2) {
      const slices = [log.slice([event(value)]), log.slice([event(value + 1)])]
      const outcomes = await Promise.allSettled([store.write(slices.slice(0, 1)), rival.write(slices.slice(1))])
      outcomes.forEach((outcome, index) => {
        if (outcome.status === 'fulfilled') won.push(value + index)
        else expect(outcome.reason).toMatchObject({ code: 'BRIDGE_OFFSET_FENCED' })
      })
      log.nextOffset++
    }
    expect(won).toHaveLength(30)
    const stored = (await contents()).readings.map(({ value }) => value as number).sort((a, b) => a - b)
    expect(stored).toEqual([0, 1, ...won])
  })

  it('make the first row of a partition at once: one of them is fenced', async () => {
    await using rival = await database.open()
    const slice = new TestLog('fresh').slice([eventOf('d', [{ metric: 'm', value: 1 }])])
    const outcomes = await Promise.allSettled([store.write([slice]), rival.write([slice])])
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
    expect((await contents()).offsets).toEqual([{ next_offset: 1, stored: 1, duplicate: 0, parked: 0, readings: 1 }])
  })

  it('write partitions in opposite order without a deadlock that anyone sees', async () => {
    await using rival = await database.open()
    const run = async (own: Store, flip: boolean, from: number) => {
      const logs = Array.from({ length: 6 }, (_, index) => new TestLog(`s${from}`, index))
      for (let round = 0; round < 15; round++) {
        const slices = logs.map((log, index) => {
          const slice = log.slice(
            Array.from({ length: 20 }, (_, at) => {
              const device = (index * 20 + at) % 30
              return eventOf(`d${flip ? 30 - device : device}`, [
                { metric: flip ? 'b' : 'a', value: round, eventTimeUs: baseUs + round },
                { metric: flip ? 'a' : 'b', value: round, eventTimeUs: baseUs + round },
              ])
            }),
          )
          log.nextOffset = slice.nextOffset
          return slice
        })
        await own.write(flip ? slices.reverse() : slices)
      }
    }
    await Promise.all([run(store, false, 0), run(rival, true, 1)])
    const [sums] = await database.rows('select sum(stored + duplicate)::int as messages from ingest_offset')
    expect(sums?.messages).toBe(2 * 15 * 120)
  })
})

it('tries again when Postgres chose it as the victim of a deadlock', async () => {
  const log = new TestLog()
  const at = (device: string, value: number) => eventOf(device, [{ metric: 'm', value, eventTimeUs: baseUs + value }])
  await log.write(store, at('a', 0), at('b', 0))
  const other = new pg.Client({ connectionString: database.url })
  await other.connect()
  try {
    const touch = (device: string) =>
      other.query(`update latest l set clock = 0 from device d where d.id = l.device_id and d.external_id = $1`, [
        device,
      ])
    // The one that looks for deadlocks first is the victim.
    await other.query(`set deadlock_timeout = '20s'`)
    await other.query('begin')
    await touch('b')
    const writing = log.write(store, at('a', 1), at('b', 1))
    await eventually(async () => (await waiting()).length, 1)
    await touch('a')
    await other.query('commit')
    expect(await writing).toMatchObject({ stored: 2, readings: 2 })
  } finally {
    await other.end()
  }
  expect((await contents()).readings).toHaveLength(4)
})

it('is durable at commit even where the database was set otherwise', async () => {
  await database.sql.query(
    `do $$ begin execute format('alter database %I set synchronous_commit = off', current_database()); end $$`,
  )
  await using fresh = await database.open()
  await database.sql.query(`
    create table seen (setting text);
    create function look() returns trigger language plpgsql as $$
      begin insert into seen values (current_setting('synchronous_commit')); return null; end $$;
    create trigger look after insert on ingest_offset execute function look()`)
  await new TestLog('durable').write(fresh, eventOf('d', [{ metric: 'm', value: 1 }]))
  expect(await database.rows('select setting from seen')).toEqual([{ setting: 'on' }])
})
