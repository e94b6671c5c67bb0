import { afterAll, beforeAll, expect, it } from 'vitest'
import { silentLog } from '#platform/log.ts'
import type { RawMessage } from '#schema/telemetry-event.ts'
import { createPool } from './connect.ts'
import { startRawDays } from './raw-days.ts'
import { eventOf, type StoreDatabase, storeDatabase, TestLog } from './store.fixture.ts'

let database: StoreDatabase
const log = new TestLog()
beforeAll(async () => {
  database = await storeDatabase()
})
afterAll(async () => await database?.[Symbol.asyncDispose]())

const raw = (more: Partial<RawMessage> = {}): RawMessage => ({
  topic: 'plant/1',
  payload: Buffer.from('{"m":1}').toString('base64'),
  keepDays: 7,
  ...more,
})

async function kept(device: string) {
  return await database.rows<{ topic: string; text: string; readings: unknown; in_days: number; arrival: boolean }>(
    `select topic, convert_from(payload, 'UTF8') as text, readings, drop_day - (m.ingest_time at time zone 'UTC')::date as in_days,
       exists (select from reading r where r.device_id = m.device_id and r.ingest_time = m.ingest_time) as arrival
     from raw_message m join device d on d.id = m.device_id where d.external_id = '${device}'`,
  )
}

it('keeps the bytes of new messages in the transaction of their rows, and not of copies', async () => {
  await using store = await database.open()
  const event = eventOf('keep', [{ metric: 'm', value: 1 }], { raw: raw() })
  await log.write(store, event)
  await log.write(store, { ...event, id: crypto.randomUUID() })
  expect(await kept('keep')).toEqual([
    { topic: 'plant/1', text: '{"m":1}', readings: event.readings, in_days: 8, arrival: true },
  ])
})

it.each([
  ['a payload that is no base64', { payload: 'é' }],
  ['one that is too large', { payload: 'A'.repeat(200_000) }],
  ['U+0000 in a topic', { topic: 'a\0b' }],
  ['U+0000 in a header', { context: { headers: { 'ce-id': '\0' } } }],
  ['days without end', { keepDays: 1e9 }],
  ['a day that has come', { keepDays: -1 }],
  ['null', null],
  ['a text', 'bytes'],
  ['an empty object', { topic: undefined, payload: undefined }],
])('stores the readings beside %s, without the bytes', async (what, more) => {
  await using store = await database.open()
  const device = `bad ${what}`
  // Another program may have written the record.
  const wrong = (typeof more === 'object' && more !== null ? { ...raw(), ...more } : more) as RawMessage
  const event = eventOf(device, [{ metric: 'm', value: 1 }], { raw: wrong })
  expect(await log.write(store, event)).toMatchObject({ stored: 1, parked: 0 })
  expect(await kept(device)).toEqual([])
})

it('drops a day when it has come', async () => {
  const pool = createPool({ databaseUrl: database.url, poolSize: 2, log: silentLog, onOtherServer: () => {} })
  const tables = async () =>
    (await database.rows(`select 1 from pg_inherits where inhparent = 'raw_message'::regclass`)).length
  const before = await tables()
  const today = Math.floor(Date.now() / 86_400_000)
  let nowMs = today * 86_400_000
  await using days = await startRawDays(pool, silentLog, () => nowMs)
  await days.make(new Set([today + 20, today + 21]))
  await days.make(new Set([today + 20]))
  expect(await tables()).toBe(before + 2)
  nowMs += 20 * 86_400_000
  await days.refresh()
  expect(await tables()).toBe(1)
  await days.close()
  await pool.end()
})
