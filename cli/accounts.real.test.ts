import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { purgeLetters } from '#gateway/admin/registry/dead-letters.ts'
import { deadLetterOf, eventOf, type StoreDatabase, storeDatabase, TestLog } from '#worker/store/store.fixture.ts'
import type { Store } from '#worker/store/store.ts'
import { accountsText, checkAccounts } from './accounts.ts'

let database: StoreDatabase
let store: Store
let log: TestLog
let logs = 0
const nowUs = Date.now() * 1000
const hourMs = 3_600_000
const dayUs = 86_400_000_000

beforeAll(async () => {
  database = await storeDatabase()
  store = await database.open()
})
afterAll(async () => {
  await store?.close()
  await database?.[Symbol.asyncDispose]()
})

/** Some of everything: stored, late, duplicates, parked, refused, a poison message that the worker parks, offsets without records. */
beforeEach(async () => {
  await database.sql.query('truncate reading, latest, dead_letter, ingest_offset, ingest_minute, audit, rollup_state')
  log = new TestLog(`accounts ${logs++}`, 0, 1000)
  const now = (index: number) => ({ metric: 'a', value: index, eventTimeUs: nowUs + index })
  const at = { ingestTimeUs: nowUs }
  const same = eventOf('d', [now(1), now(2)], at)
  await log.write(store, same, eventOf('d', [now(1), now(3)], at), same)
  await log.write(store, eventOf('d', [{ metric: 'a', value: 1, eventTimeUs: nowUs - 3 * dayUs }], at), same)
  const refused = deadLetterOf({ acknowledged: false, ingestTimeUs: nowUs })
  await log.write(store, deadLetterOf({ ingestTimeUs: nowUs }), refused, refused)
  await log.write(store, eventOf('d', [{ metric: 'a', value: 1, eventTimeUs: nowUs - 300 * dayUs }], at))
  log.nextOffset += 7
  await store.write([{ ...log.slice([]), fromOffset: log.nextOffset - 7 }])
  await log.write(store, eventOf('d', [now(4)], { ingestTimeUs: nowUs - 2 * hourMs * 1000 }))
})

const check = () => checkAccounts(database.sql, Date.now() - hourMs)

it('agrees with what is there, by the arrival', async () => {
  const accounts = await check()
  expect(accounts).toMatchObject({
    counted: { stored: 3, duplicate: 2, parked: 2, refused: 2, letters: 3, readings: 4 },
    rows: 4,
    deadLetters: 3,
    differences: [],
    explained: [],
    ok: true,
  })
  expect(accountsText(accounts)).toMatch(
    /3 stored, 2 duplicates, 2 parked; 2 refused and kept[\s\S]+the accounts agree$/,
  )
  const { counted } = await checkAccounts(database.sql, Date.now() - 3 * hourMs)
  expect(counted.readings).toBe(5)
})

describe('finds', () => {
  it.each([
    ['a lost row', 'delete from reading where value = 3', /4 readings were counted .* 3 rows are there: 1 missing/],
    [
      'a lost late row',
      `delete from reading where event_time < now() - interval '1 day'`,
      /3 rows are there: 1 missing/,
    ],
    [
      'a row that nobody counted',
      'insert into reading (device_id, metric_id, event_time, ingest_time, value) select device_id, metric_id, event_time + interval $$1 s$$, ingest_time, 9 from reading where value = 3',
      /5 rows are there: 1 too many/,
    ],
    [
      'a lost dead letter',
      `delete from dead_letter where code = 'too_old'`,
      /3 dead letters were counted .* 2 are there: 1 missing/,
    ],
    [
      'an offset without a message',
      'update ingest_offset set next_offset = next_offset + 2, counted_offset = next_offset + 2',
      /counts come to \d+: 2 missing/,
    ],
    ['a count too many', 'update ingest_offset set stored = stored + 1', /counts come to \d+: 1 too many/],
  ])('%s', async (_, harm, difference) => {
    await database.sql.query(harm)
    const accounts = await check()
    expect(accounts.ok).toBe(false)
    expect(accounts.differences).toEqual([expect.stringMatching(difference)])
    expect(accountsText(accounts)).toMatch(/^DIFFERENCE: /m)
  })
})

describe('explains', () => {
  it('dead letters that were purged', async () => {
    await purgeLetters(
      database.sql,
      { actor: 'cli:test', makesTenants: false },
      { code: 'too_old' },
      { state: 'all', dryRun: false },
    )
    expect(await check()).toMatchObject({ ok: true, explained: [expect.stringMatching(/1 were purged since/)] })
  })

  it('readings that a shorter retention of a tenant took', async () => {
    await database.sql.query(`update tenant set retention_days = 2;
      insert into rollup_state (tenant_id, readings_from) values (1, now() - interval '2 days');
      delete from reading where event_time < now() - interval '2 days'`)
    expect(await check()).toMatchObject({ ok: true, explained: [expect.stringMatching(/tenant default keeps 2 days/)] })
    await database.sql.query('update tenant set retention_days = null')
  })

  it('what a worker of an older version wrote, and counts from there again', async () => {
    await database.sql.query('update ingest_offset set next_offset = next_offset + 5, stored = stored + 3')
    expect((await check()).explained).toEqual([expect.stringMatching(/older version/)])
    log.nextOffset += 5
    await log.write(store, deadLetterOf({ ingestTimeUs: nowUs }))
    expect(await check()).toMatchObject({ ok: true, explained: [] })
  })
})
