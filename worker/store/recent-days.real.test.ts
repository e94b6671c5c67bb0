import { afterAll, beforeAll, expect, it } from 'vitest'
import { silentLog } from '#platform/log.ts'
import { createPool } from './connect.ts'
import { startRecentDays } from './recent-days.ts'
import { eventOf, type StoreDatabase, storeDatabase, TestLog } from './store.fixture.ts'

let database: StoreDatabase
beforeAll(async () => {
  database = await storeDatabase()
})
afterAll(async () => await database?.[Symbol.asyncDispose]())

const days = async () =>
  (
    await database.rows<{ table: string }>(
      `select c.relname as table from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'recent_message'::regclass order by 1`,
    )
  ).map(({ table }) => table.slice('recent_message_'.length))

it('makes the days ahead, drops those past the keeping, and is safe beside another', async () => {
  const pool = createPool({ databaseUrl: database.url, poolSize: 3, log: silentLog, onOtherServer: () => {} })
  let nowMs = Date.UTC(2026, 0, 31, 23)
  const options = { pool, keepDays: 2, log: silentLog, now: () => nowMs }
  const one = await startRecentDays(options)
  const other = await startRecentDays(options)
  expect(await days()).toEqual(['20260130', '20260131', '20260201', '20260202'])
  nowMs = Date.UTC(2026, 1, 3)
  await Promise.all([one.refresh(), other.refresh()])
  expect(await days()).toEqual(['20260201', '20260202', '20260203', '20260204', '20260205'])
  await one.close()
  await other.close()
  await pool.end()
})

it('makes today again when somebody has dropped it under a running worker', async () => {
  await using store = await database.open()
  const log = new TestLog()
  await log.write(store, eventOf('day', [{ metric: 'm', value: 1 }], { messageKey: 'a' }))
  for (const day of await days()) await database.sql.query(`drop table recent_message_${day}`)
  const again = eventOf('day', [{ metric: 'm', value: 2 }], { messageKey: 'b' })
  expect(await log.write(store, again)).toMatchObject({ stored: 1 })
})

it('deletes dead letters past their retention', async () => {
  await database.sql.query(`insert into dead_letter (id, tenant, device, source, stage, code, message, acknowledged, ingest_time)
    select gen_random_uuid(), 'default', 'old', 'mqtt', 'decode', 'malformed', '', true, now() - n * interval '1 day' from generate_series(1, 20) n`)
  const { startStore } = await import('./store.ts')
  const { createMetrics } = await import('#platform/metrics.ts')
  const store = await startStore({
    databaseUrl: database.url,
    poolSize: 2,
    retention: '90d',
    deadLetters: '10d',
    log: silentLog,
    metrics: createMetrics('test'),
  })
  await store.close() // waits for what it has begun
  expect(await database.rows(`select count(*)::int as n from dead_letter where device = 'old'`)).toEqual([{ n: 9 }])
})
