import pg from 'pg'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { setTenantRetention } from '#gateway/admin/registry/tenants.ts'
import { silentLog } from '#platform/log.ts'
import { eventOf, eventually, type StoreDatabase, storeDatabase, TestLog } from '../store/store.fixture.ts'
import type { Store } from '../store/store.ts'
import { startDailyRetention } from './daily.ts'
import { type RetentionOptions, runRetention } from './retention.ts'

let database: StoreDatabase
let opened: AsyncDisposableStack
beforeEach(async () => {
  opened = new AsyncDisposableStack()
  database = opened.use(await storeDatabase())
})
afterEach(async () => {
  await opened?.disposeAsync()
})

const dayMs = 86_400_000
const kept = { reading: '30d', rollup10m: '400d', rollup1h: 'forever' }
const today = Math.floor(Date.now() / dayMs) * dayMs
const often = { everyMs: 1 }

async function connected(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: database.url })
  client.on('error', () => {})
  await client.connect()
  opened.defer(() => client.end())
  return client
}

const run = async (more: Partial<RetentionOptions> = {}) =>
  runRetention({ client: await connected(), kept, log: silentLog, ...more })

let fills = 0
/** One reading a day at noon, from so many days ago until so many. */
async function fill(store: Store, fromDays: number, toDays: number, device = 'd', tenant = 'default'): Promise<void> {
  const log = new TestLog(`fill ${fills++}`)
  for (let days = fromDays; days >= toDays; days--) {
    const eventTimeUs = (today - days * dayMs + dayMs / 2) * 1000
    await log.write(store, eventOf(device, [{ metric: 'a', value: days, eventTimeUs }], { tenant }))
  }
}

const days = (device = 'd') =>
  database
    .rows<{ value: number }>(`select value from telemetry where device = $1 order by value`, [device])
    .then((rows) => rows.map(({ value }) => value))
const ranges = async () => (await database.rows(`select from pg_inherits where inhparent = 'reading'::regclass`)).length
const leftOver = () =>
  database.rows(
    `select relname from pg_class where relkind in ('r', 'p') and relname like 'reading_2%' and not relispartition`,
  )

describe('the retention of the configuration', () => {
  it('drops whole ranges, and says before what it would drop', async () => {
    const store = opened.use(await database.open({ rollups: often }))
    await fill(store, 33, 29)
    await database.rolledUp()
    const before = await ranges()
    const dry = await run({ isDryRun: true })
    expect(dry?.ranges.map(({ fromMs }) => (today - fromMs) / dayMs)).toEqual([33, 32, 31])
    expect(dry?.ranges.every(({ bytes }) => bytes > 0)).toBe(true)
    expect(await ranges()).toBe(before)
    expect(await run()).toEqual(dry)
    expect(await days()).toEqual([29, 30])
    expect(await ranges()).toBe(before - 3)
    expect(await leftOver()).toEqual([])
    expect(await run()).toEqual({ ranges: [], tenants: [] })
    expect(await database.rows('select from rollup_10m'), 'rollups are kept longer').toHaveLength(5)
    // A reading that comes late is not made a rollup of its own.
    await new TestLog('late').write(
      store,
      eventOf('d', [{ metric: 'a', value: -1, eventTimeUs: (today - 32 * dayMs + dayMs / 2) * 1000 }]),
    )
    await database.rolledUp()
    expect(await database.rows('select from rollup_10m where min = -1')).toEqual([])
  })

  it('drops ranges of rollups by their own retention', async () => {
    const store = opened.use(await database.open({ rollups: often }))
    await fill(store, 60, 60)
    await fill(store, 1, 1)
    await database.rolledUp()
    const report = await run({ kept: { reading: '90d', rollup10m: '10d', rollup1h: 'forever' } })
    expect(report?.ranges.map(({ parent }) => parent)).toEqual(['rollup_10m'])
    expect(await database.rows('select from rollup_10m')).toHaveLength(1)
    expect(await database.rows('select from rollup_1h')).toHaveLength(2)
  })

  it('lets writers and readers go on, also with a long query in its way', async () => {
    const store = opened.use(await database.open())
    await fill(store, 36, 31)
    const [reader, watcher] = [await connected(), await connected()]
    await reader.query('begin')
    await reader.query('select count(*) from reading')
    let done = false
    const running = run().finally(() => {
      done = true
    })
    let longestMs = 0
    const timed = async (work: () => Promise<unknown>) => {
      const startedAt = performance.now()
      await work()
      longestMs = Math.max(longestMs, performance.now() - startedAt)
    }
    const lockWaits = new Set<string>()
    const log = new TestLog('live')
    const startedAt = performance.now()
    for (let count = 0; !done; count++) {
      await timed(() =>
        log.write(store, eventOf('live', [{ metric: 'a', value: count, eventTimeUs: today * 1000 + count }])),
      )
      await timed(() => database.sql.query('select count(*) from reading'))
      const { rows } = await watcher.query(
        `select left(query, 60) as query from pg_locks l join pg_stat_activity a using (pid)
          where not l.granted and l.locktype = 'relation' and a.query not ilike 'alter table%' and a.datname = current_database()`,
      )
      for (const { query } of rows) lockWaits.add(query)
      if (performance.now() - startedAt > 1500) await reader.query('rollback')
    }
    expect((await running)?.ranges).toHaveLength(6)
    console.log(`six ranges dropped; the longest write or query beside it took ${longestMs.toFixed(0)} ms`)
    expect([...lockWaits], 'nobody waits for a lock on a table').toEqual([])
    expect(longestMs).toBeLessThan(1400)
    expect((await days('live')).length).toBeGreaterThan(5)
  })

  it('goes on where a killed run stopped', async () => {
    const store = opened.use(await database.open())
    await fill(store, 33, 29)
    const reader = await connected()
    await reader.query('begin')
    await reader.query('select count(*) from reading')
    const client = await connected()
    const [{ pid } = { pid: 0 }] = (await client.query('select pg_backend_pid() as pid')).rows
    const first = runRetention({ client, kept, log: silentLog }).catch((error: unknown) => error)
    const pending = () => database.rows('select count(*)::int as pending from pg_inherits where inhdetachpending')
    await eventually(pending, [{ pending: 1 }])
    await database.sql.query('select pg_terminate_backend($1)', [pid])
    expect(await first).toBeInstanceOf(Error)
    await reader.query('rollback')
    expect((await run())?.ranges).toHaveLength(2)
    expect(await days()).toEqual([29, 30])
    expect(await leftOver()).toEqual([])
    // Killed between the two statements.
    await fill(store, 33, 33)
    const [{ table } = { table: '' }] = (await run({ isDryRun: true }))?.ranges ?? []
    await database.sql.query(`alter table reading detach partition ${table}`)
    await database.sql.query(`insert into upkeep (task, finished_at, details) values ('retention.drop', now(), $1)`, [
      JSON.stringify({ table }),
    ])
    expect(await leftOver()).toHaveLength(1)
    await run()
    expect(await leftOver()).toEqual([])
  })

  it('is run by one process at a time', async () => {
    const store = opened.use(await database.open())
    await fill(store, 32, 31)
    const reports = await Promise.all([run(), run()])
    expect(reports.map((report) => report?.ranges.length).sort()).toEqual([2, undefined])
  })
})

describe('the retention of a tenant', () => {
  it('deletes its older readings, and nothing else', async () => {
    const store = opened.use(await database.open({ rollups: often }))
    await database.sql.query(`insert into tenant (name) values ('acme')`)
    await fill(store, 12, 8)
    await fill(store, 12, 8, 'a', 'acme')
    await database.rolledUp()
    const client = await connected()
    const by = { actor: 'cli:test', makesTenants: false }
    expect(await setTenantRetention(client, by, 'acme', '10d')).toBe(10)
    for (const bad of ['0d', '10', '1h', 'forever', '-1d', '999999d'])
      await expect(setTenantRetention(client, by, 'acme', bad)).rejects.toMatchObject({ code: 'BRIDGE_USAGE' })
    expect(await database.rows('select action, details from audit')).toEqual([
      { action: 'tenant.set', details: { retentionDays: 10 } },
    ])
    const nowMs = today + dayMs / 2 + 1
    const left = { ranges: [], tenants: [{ tenant: 'acme', days: 10, readings: 2 }] }
    expect(await run({ nowMs, isDryRun: true })).toEqual(left)
    expect(await days('a')).toHaveLength(5)
    expect(await run({ nowMs })).toEqual(left)
    expect(await days('a')).toEqual([8, 9, 10])
    expect(await days('d')).toHaveLength(5)
    expect(await database.rows('select from rollup_1h')).toHaveLength(10)
    expect(await setTenantRetention(client, by, 'acme', 'none')).toBeNull()
    expect(await run({ nowMs })).toEqual({ ranges: [], tenants: [] })
  })
})

describe('a worker', () => {
  it('runs it once a day, and makes up for a missed run', async () => {
    const store = opened.use(await database.open())
    const finished = () =>
      database.rows(`select finished_at > now() - interval '1 minute' as is_new from upkeep where task = 'retention'`)
    const daily = { databaseUrl: database.url, kept, log: silentLog, everyMs: 50 }
    opened.use(startDailyRetention(daily))
    opened.use(startDailyRetention(daily))
    await eventually(finished, [{ is_new: true }])
    await fill(store, 31, 31)
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(await days(), 'it was done today').toEqual([31])
    await database.sql.query(`update upkeep set finished_at = now() - interval '25 hours'`)
    await eventually(days, [])
    await eventually(finished, [{ is_new: true }])
  })
})
