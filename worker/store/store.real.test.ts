import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createMetrics } from '#platform/metrics.ts'
import { baseUs, deadLetterOf, eventOf, type StoreDatabase, storeDatabase, TestLog } from './store.fixture.ts'
import type { Store } from './store.ts'

let database: StoreDatabase
let store: Store
let streams = 0
const metrics = createMetrics('test')
const newLog = () => new TestLog(`test ${streams++}`)

beforeAll(async () => {
  database = await storeDatabase()
  store = await database.open({ metrics })
})
afterAll(async () => {
  await store?.close()
  await database?.[Symbol.asyncDispose]()
})

const readingsOf = (device: string) =>
  database.rows(
    `select m.name as metric, r.ordinal, r.value, r.text, r.flag from reading r join device d on d.id = r.device_id
     join metric m on m.id = r.metric_id where d.external_id = $1 order by 1, r.event_time, 2`,
    [device],
  )
const latestOf = (device: string) =>
  database.rows('select metric, value, text, flag from telemetry_latest where device = $1 order by 1', [device])
const offsetsOf = async (stream: string) =>
  (
    await database.rows(
      'select next_offset::int, stored::int, duplicate::int, parked::int, readings::int from ingest_health where stream = $1',
      [stream],
    )
  )[0]

describe('a write', () => {
  it('makes every column of a reading', async () => {
    const deviceTimeUs = baseUs + 86_400_000_001
    await newLog().write(
      store,
      eventOf(
        'columns',
        [
          { metric: 'a', value: 21.5, unit: 'Cel', eventTimeUs: baseUs + 123_457 },
          { metric: 'b', text: 'it\'s {"x", NULL}\\ ☃\n', clock: 1 },
          { metric: 'c', flag: false },
          { metric: 'd', value: -1e-300, clock: 2, deviceTimeUs },
        ],
        { ingestTimeUs: baseUs + 7 },
      ),
    )
    const rows = await database.rows(
      `select metric, unit, extract(epoch from time)::numeric::text as time, value, text, flag, clock,
        extract(epoch from ingest_time)::numeric::text as ingest from telemetry where device = 'columns' order by metric`,
    )
    const seconds = (us: number) => (us / 1e6).toFixed(6)
    const ingest = seconds(baseUs + 7)
    const time = seconds(baseUs)
    const none = { unit: null, value: null, text: null, flag: null, time, ingest }
    expect(rows).toEqual([
      { ...none, metric: 'a', unit: 'Cel', value: 21.5, clock: 0, time: seconds(baseUs + 123_457) },
      { ...none, metric: 'b', text: 'it\'s {"x", NULL}\\ ☃\n', clock: 1 },
      { ...none, metric: 'c', flag: false, clock: 0 },
      { ...none, metric: 'd', value: -1e-300, clock: 2 },
    ])
    const [row] = await database.rows<{ time: string }>(
      'select extract(epoch from device_time)::numeric::text as time from reading where device_time is not null',
    )
    expect(row?.time).toBe(seconds(deviceTimeUs))
  })

  it('keeps numbers to the last bit', async () => {
    const values = [5e-324, 1.7976931348623157e308, 0.1 + 0.2, -2.2250738585072014e-308, 9_007_199_254_740_991, 1 / 3]
    await newLog().write(
      store,
      eventOf(
        'bits',
        values.map((value, index) => ({ metric: `v${index}`, value })),
      ),
    )
    expect((await readingsOf('bits')).map(({ value }) => value)).toEqual(values)
  })

  it('counts an equal reading as a duplicate and gives another value the next ordinal', async () => {
    const log = newLog()
    const at = (value: number) => eventOf('equal', [{ metric: 'm', value }])
    expect(await log.write(store, at(1), at(1), at(2))).toEqual({ stored: 2, duplicate: 1, parked: 0, readings: 2 })
    expect(await log.write(store, at(2), at(3), at(1))).toEqual({ stored: 1, duplicate: 2, parked: 0, readings: 1 })
    expect(await readingsOf('equal')).toEqual(
      [1, 2, 3].map((value, ordinal) => ({ metric: 'm', ordinal, value, text: null, flag: null })),
    )
    expect(await offsetsOf(log.stream)).toEqual({ next_offset: 6, stored: 3, duplicate: 3, parked: 0, readings: 3 })
  })

  it('tells 1, "1" and true apart, and not -0 from 0', async () => {
    const log = newLog()
    const readings = [
      { value: 1 },
      { text: '1' },
      { flag: true },
      { value: 0 },
      { value: -0 },
      { text: '' },
      { flag: false },
    ]
    const events = readings.map((reading) => eventOf('types', [{ metric: 'm', ...reading }]))
    const [, , , , minusZero, empty] = events
    expect(await log.write(store, ...events)).toMatchObject({ stored: 6, duplicate: 1 })
    expect(await log.write(store, ...events), 'against the table').toMatchObject({ stored: 0, duplicate: 7 })
    expect(await log.write(store, minusZero as never, empty as never)).toMatchObject({ duplicate: 2 })
  })

  it('calls a message a duplicate only when all its readings are', async () => {
    const log = newLog()
    await log.write(store, eventOf('partly', [{ metric: 'a', value: 1 }]))
    const more = eventOf('partly', [
      { metric: 'a', value: 1 },
      { metric: 'b', value: 1 },
      { metric: 'b', value: 1 },
    ])
    expect(await log.write(store, more)).toEqual({ stored: 1, duplicate: 0, parked: 0, readings: 1 })
    expect(await log.write(store, more)).toEqual({ stored: 0, duplicate: 1, parked: 0, readings: 0 })
  })

  it('takes no more than 1,000 values at one instant, and parks the message whole', async () => {
    const log = newLog()
    const values = (from: number, to: number) =>
      Array.from({ length: to - from }, (_, index) => eventOf('crowd', [{ metric: 'm', value: from + index }]))
    await log.write(store, ...values(0, 600))
    expect(await log.write(store, ...values(600, 1005))).toEqual({
      stored: 400,
      duplicate: 0,
      parked: 5,
      readings: 400,
    })
    const straddling = eventOf('crowd', [
      { metric: 'other', value: 1 },
      { metric: 'm', value: 2000 },
      { metric: 'other', value: 2 },
    ])
    expect(await log.write(store, straddling, ...values(10, 11))).toEqual({
      stored: 0,
      duplicate: 1,
      parked: 1,
      readings: 0,
    })
    const rows = await readingsOf('crowd')
    expect(rows).toHaveLength(1000)
    expect(rows.at(-1)).toMatchObject({ ordinal: 999, value: 999 })
    const [letter] = await database.rows('select code, stage, acknowledged, payload from dead_letter where id = $1', [
      straddling.id,
    ])
    expect(letter).toMatchObject({ code: 'too_many_ordinals', stage: 'store', acknowledged: true })
    expect(JSON.parse(String(letter?.payload))).toEqual(straddling)
  })

  it('never lets latest go back; of equal times the later in the log wins; duplicates leave it alone', async () => {
    const log = newLog()
    const at = (minutes: number, value: number) =>
      eventOf('newest', [{ metric: 'm', value, eventTimeUs: baseUs + minutes * 60_000_000 }])
    const latest = async () => (await latestOf('newest'))[0]?.value
    await log.write(store, at(5, 50), at(4, 40))
    expect(await latest(), 'within a batch').toBe(50)
    await log.write(store, at(3, 30))
    expect(await latest(), 'across batches').toBe(50)
    await log.write(store, at(5, 51))
    expect(await latest(), 'an equal time').toBe(51)
    await log.write(store, at(5, 50))
    expect(await latest(), 'a duplicate of the older one').toBe(51)
    await log.write(store, at(6, 60), at(6, 61), at(6, 60))
    expect(await latest(), 'equal times within a batch').toBe(61)
  })

  it('changes the type of a latest value', async () => {
    const log = newLog()
    await log.write(store, eventOf('typed', [{ metric: 'm', value: 1 }]))
    await log.write(store, eventOf('typed', [{ metric: 'm', text: 'x', eventTimeUs: baseUs + 1 }]))
    await log.write(store, eventOf('typed', [{ metric: 'm', flag: true, eventTimeUs: baseUs + 2 }]))
    expect(await latestOf('typed')).toEqual([{ metric: 'm', value: null, text: null, flag: true }])
  })

  it('stores a batch larger than one statement', async () => {
    const log = newLog()
    const events = Array.from({ length: 12_001 }, (_, index) =>
      eventOf(`large-${index % 7}`, [{ metric: 'm', value: index, eventTimeUs: baseUs + index }]),
    )
    expect(await log.write(store, ...events)).toEqual({ stored: 12_001, duplicate: 0, parked: 0, readings: 12_001 })
    expect(await log.write(store, ...events)).toEqual({ stored: 0, duplicate: 12_001, parked: 0, readings: 0 })
  })
})

describe('dead letters', () => {
  it('keep every field and the bytes; one that the log holds twice is kept once', async () => {
    const log = newLog()
    const context = { sender: 'gw-1', fleet: true, messageKey: 'a"\\' } as const
    const letter = deadLetterOf({ contentType: 'text/plain', payload: Buffer.from([0, 255, 1]), context })
    const bare = deadLetterOf({ payload: null, acknowledged: true })
    expect(await log.write(store, letter, bare)).toEqual({ stored: 0, duplicate: 0, parked: 2, readings: 0 })
    expect(await log.write(store, letter, letter)).toMatchObject({ parked: 0, duplicate: 2 })
    const [row] = await database.rows('select * from dead_letter where id = $1', [letter.id])
    const { id, ingestTimeUs, contentType, ...same } = letter
    expect(row).toEqual({
      id,
      ...same,
      stream: log.stream,
      partition: 0,
      record_offset: '0',
      content_type: contentType,
      ingest_time: new Date(ingestTimeUs / 1000),
      replayed_at: null,
      replay_outcome: null,
      tried_at: null,
    })
    expect(await offsetsOf(log.stream)).toEqual({ next_offset: 4, stored: 0, duplicate: 2, parked: 2, readings: 0 })
  })

  it('that were refused at the gateway are kept, and not counted: they were never accepted', async () => {
    const log = newLog()
    const letter = deadLetterOf({ acknowledged: false })
    expect(await log.write(store, letter)).toEqual({ stored: 0, duplicate: 0, parked: 0, readings: 0 })
    expect(await database.rows('select acknowledged from dead_letter where id = $1', [letter.id])).toEqual([
      { acknowledged: false },
    ])
  })

  it('can be stored whatever they hold', async () => {
    const log = newLog()
    const outcome = await log.write(
      store,
      deadLetterOf({ id: 'no uuid', topic: 'a\u0000b', message: '\ud800', ingestTimeUs: Number.NaN }),
      deadLetterOf({ device: '', tenant: "'; drop table reading; --" }),
    )
    expect(outcome).toMatchObject({ parked: 2 })
    const rows = await database.rows('select topic from dead_letter where stream = $1 order by record_offset', [
      log.stream,
    ])
    expect(rows[0]).toEqual({ topic: 'a\ufffdb' })
  })
})

describe('offsets', () => {
  it('start wherever the first slice does and create nothing when asked', async () => {
    const log = new TestLog(`test ${streams++}`, 3, 4711)
    expect(await store.offsets(log.stream, [3, 4])).toEqual(new Map())
    expect(await offsetsOf(log.stream)).toBeUndefined()
    await log.write(store, eventOf('first', [{ metric: 'm', value: 1 }]))
    expect(await store.offsets(log.stream, [3, 4])).toEqual(new Map([[3, 4712]]))
  })

  it('allow gaps and slices without records', async () => {
    const stream = `test ${streams++}`
    const event = eventOf('gaps', [{ metric: 'm', value: 1 }])
    await store.write([
      { stream, partition: 0, fromOffset: 10, nextOffset: 20, records: [{ offset: 12, event }] },
      { stream, partition: 1, fromOffset: 5, nextOffset: 9, records: [] },
      { stream, partition: 0, fromOffset: 20, nextOffset: 30, records: [{ offset: 29, event }] },
    ])
    expect(await store.offsets(stream, [0, 1])).toEqual(
      new Map([
        [0, 30],
        [1, 9],
      ]),
    )
    await expect(
      store.write([
        { stream, partition: 0, fromOffset: 30, nextOffset: 31, records: [] },
        { stream, partition: 0, fromOffset: 32, nextOffset: 33, records: [] },
      ]),
    ).rejects.toThrow('do not follow each other')
  })

  it('fence a slice that begins elsewhere, and nothing of it remains', async () => {
    const log = newLog()
    await log.write(store, eventOf('fence', [{ metric: 'm', value: 1 }]))
    for (const wrong of [0, 2]) {
      const other = new TestLog(log.stream, 0, wrong)
      const good = newLog()
      const attempt = store.write([
        good.slice([eventOf('fence', [{ metric: 'm', value: 8 }])]),
        other.slice([eventOf('fence-new', [{ metric: 'm', value: 9 }])]),
      ])
      await expect(attempt).rejects.toMatchObject({ code: 'BRIDGE_OFFSET_FENCED' })
      expect(await offsetsOf(good.stream), 'the other partition of the same write').toBeUndefined()
    }
    expect(await readingsOf('fence')).toHaveLength(1)
    expect(await database.rows(`select from device where external_id = 'fence-new'`)).toEqual([])
    expect(await offsetsOf(log.stream)).toMatchObject({ next_offset: 1 })
  })
})

it('tells its listener after the commit, and its metrics', async () => {
  const log = newLog()
  const told: unknown[] = []
  store.onStored = (slices, outcome) => told.push({ records: slices[0]?.records.length, outcome })
  await log.write(store, eventOf('told', [{ metric: 'm', value: 1 }]), deadLetterOf())
  store.onStored = undefined
  expect(told).toEqual([{ records: 2, outcome: { stored: 1, duplicate: 0, parked: 1, readings: 1 } }])
  const text = await metrics.registry.metrics()
  const total = (name: string) => Number(new RegExp(`^${name} (\\d+)`, 'm').exec(text)?.[1])
  const [sums] = await database.rows<Record<string, number>>(
    'select sum(stored)::int as stored, sum(duplicate)::int as duplicate, sum(parked)::int as parked, sum(readings)::int as readings from ingest_health',
  )
  for (const result of ['stored', 'duplicate', 'parked'])
    expect(total(`fleetbridge_stored_messages_total\\{result="${result}"\\}`), result).toBe(sums?.[result])
  expect(total('fleetbridge_stored_readings_total')).toBe(sums?.readings)
  expect(text).toMatch(/^fleetbridge_stored_age_seconds \d/m)
  expect(total('fleetbridge_partitions_made_total')).toBe(3)
})

it('waits for writes in hand when it is closed, and then refuses', async () => {
  const closing = await database.open()
  const log = newLog()
  const writing = log.write(closing, eventOf('closing', [{ metric: 'm', value: 1 }]))
  await closing.close()
  expect(await writing).toMatchObject({ stored: 1 })
  await expect(log.write(closing, eventOf('closing', [{ metric: 'm', value: 2 }]))).rejects.toThrow('closed')
})

it('the first write of a partition finds what another partition has stored already', async () => {
  await using own = await database.open()
  const event = eventOf('first-of-two', [{ metric: 'a', value: 1 }])
  expect(await newLog().write(own, event)).toMatchObject({ stored: 1, duplicate: 0 })
  // Its names are known now, so everything is sent at once, and the row of the offset is made when the insert has failed already.
  expect(await newLog().write(own, event)).toMatchObject({ stored: 0, duplicate: 1 })
})
