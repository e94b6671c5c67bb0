import { afterAll, beforeAll, expect, it } from 'vitest'
import type { TelemetryEvent } from '#schema/telemetry-event.ts'
import { baseUs, eventOf, type StoreDatabase, storeDatabase, TestLog } from './store.fixture.ts'
import type { Store } from './store.ts'

let database: StoreDatabase
let store: Store
let streams = 0

beforeAll(async () => {
  database = await storeDatabase()
  store = await database.open()
})
afterAll(async () => {
  await store?.close()
  await database?.[Symbol.asyncDispose]()
})

const dayUs = 86_400_000_000
const good = (device: string, value: number) => eventOf(device, [{ metric: 'm', value, eventTimeUs: baseUs + value }])
const broken = (event: object) => event as TelemetryEvent
const letterOf = async ({ id }: TelemetryEvent) =>
  (await database.rows('select code, stage, acknowledged, message, payload from dead_letter where id = $1', [id]))[0]
const valuesOf = async (device: string) =>
  (await database.rows('select value from telemetry where device = $1 order by time', [device])).map(
    ({ value }) => value,
  )

/** What Postgres itself refuses. */
const refused: [string, (device: string) => TelemetryEvent][] = [
  ['U+0000 in a text', (device) => eventOf(device, [{ metric: 't', text: 'a\u0000b' }])],
  ['U+0000 in a metric', (device) => eventOf(device, [{ metric: 'a\u0000b', value: 1 }])],
  ['U+0000 in a unit', (device) => eventOf(device, [{ metric: 'u', unit: '\u0000', value: 1 }])],
  ['U+0000 in a device', (device) => eventOf(`${device}\u0000`, [{ metric: 'm', value: 1 }])],
  ['U+0000 in a tenant', (device) => eventOf(device, [{ metric: 'm', value: 1 }], { tenant: '\u0000' })],
  ['U+0000 in a gateway', (device) => eventOf(`${device}-new`, [{ metric: 'm', value: 1 }], { gateway: '\u0000' })],
  ['a name too long for an index', (device) => eventOf(device, [{ metric: randomText(9000), value: 1 }])],
]

/** Does not compress. */
function randomText(length: number): string {
  return Array.from({ length }, () => String.fromCharCode(33 + Math.floor(Math.random() * 90))).join('')
}

it.each(refused)('parks a message with %s and writes its neighbours, in order', async (_, make) => {
  const device = `neighbour-${streams}`
  const log = new TestLog(`test ${streams++}`)
  const poison = make(device)
  const outcome = await log.write(
    store,
    ...[1, 2, 3].map((value) => good(device, value)),
    poison,
    ...[4, 5].map((value) => good(device, value)),
  )
  expect(outcome).toEqual({ stored: 5, duplicate: 0, parked: 1, readings: 5 })
  expect(await valuesOf(device)).toEqual([1, 2, 3, 4, 5])
  const letter = await letterOf(poison)
  expect(letter).toMatchObject({ code: 'row_refused', stage: 'store', acknowledged: true })
  expect(letter?.message).toMatch(/^Postgres: .+ \((22|54)\w{3}\)$/)
  expect(JSON.parse(String(letter?.payload))).toEqual(poison)
  expect(await database.rows(`select from device where external_id = $1`, [`${device}-new`]), 'no trace').toEqual([])
})

it('parks every bad one among many', async () => {
  const log = new TestLog(`test ${streams++}`)
  const events = Array.from({ length: 300 }, (_, index) =>
    index % 10 === 3 ? eventOf('many', [{ metric: 't', text: `\u0000${index}` }]) : good('many', index),
  )
  expect(await log.write(store, ...events)).toEqual({ stored: 270, duplicate: 0, parked: 30, readings: 270 })
  expect(await log.write(store, ...events), 'again: nothing new, nothing parked twice').toEqual({
    stored: 0,
    duplicate: 300,
    parked: 0,
    readings: 0,
  })
  expect(await log.write(store, good('many', 1000)), 'and the store goes on').toMatchObject({ stored: 1 })
})

it('parks the only message of a write', async () => {
  const log = new TestLog(`test ${streams++}`)
  const poison = eventOf('alone', [{ metric: 't', text: '\u0000' }])
  expect(await log.write(store, poison)).toMatchObject({ parked: 1 })
  expect(await letterOf(poison)).toMatchObject({ code: 'row_refused' })
})

/** What no decoder of ours makes, but a record from elsewhere may hold. */
const malformed: [string, TelemetryEvent][] = [
  ['no readings', eventOf('bad', [])],
  ['an infinite value', eventOf('bad', [{ metric: 'm', value: Number.POSITIVE_INFINITY }])],
  ['two values', eventOf('bad', [{ metric: 'm', value: 1, text: 'x' }])],
  ['no value', eventOf('bad', [{ metric: 'm' }])],
  ['a value of another type', broken(eventOf('bad', [{ metric: 'm', value: '1' as never }]))],
  ['a flag of another type', broken(eventOf('bad', [{ metric: 'm', flag: 1 as never }]))],
  ['a lone surrogate', eventOf('bad', [{ metric: 'm', text: '\udc00' }])],
  ['a metric that is no text', broken(eventOf('bad', [{ metric: 7 as never, value: 1 }]))],
  ['an empty metric', eventOf('bad', [{ metric: '', value: 1 }])],
  [
    'readings that are no list',
    broken({ ...eventOf('bad', []), readings: { length: 1, 0: { metric: 'm', value: 1 } } }),
  ],
  ['a reading that is null', broken({ ...eventOf('bad', []), readings: [null] })],
  ['half a microsecond', eventOf('bad', [{ metric: 'm', value: 1, eventTimeUs: baseUs + 0.5 }])],
  ['an ingest time that is none', eventOf('bad', [{ metric: 'm', value: 1 }], { ingestTimeUs: Number.NaN })],
  ['an unknown clock', broken(eventOf('bad', [{ metric: 'm', value: 1, clock: 3 as never }]))],
  ['an unknown tenant', eventOf('bad', [{ metric: 'm', value: 1 }], { tenant: 'nobody' })],
  ['a time two days after its arrival', eventOf('bad', [{ metric: 'm', value: 1, eventTimeUs: baseUs + 2 * dayUs }])],
  ['a time in 2106', eventOf('bad', [{ metric: 'm', value: 1, eventTimeUs: Date.UTC(2106, 1) * 1000 }])],
]

it.each(malformed)('parks a message with %s beside a good one', async (_, poison) => {
  const log = new TestLog(`test ${streams++}`)
  expect(await log.write(store, poison, good(`beside-${streams}`, 1))).toEqual({
    stored: 1,
    duplicate: 0,
    parked: 1,
    readings: 1,
  })
  expect(await letterOf(poison)).toMatchObject({ code: 'row_refused', stage: 'store', acknowledged: true })
})

it('parks what is older than the retention, judged from its arrival, and takes what was in time however late it comes', async () => {
  const log = new TestLog(`test ${streams++}`)
  const at = (days: number, ingestDays: number) =>
    eventOf('old', [{ metric: 'm', value: days, eventTimeUs: baseUs - days * dayUs }], {
      ingestTimeUs: baseUs - ingestDays * dayUs,
    })
  const tooOld = at(91, 0)
  expect(await log.write(store, at(89, 0), tooOld, at(95, 6), at(1970 * 365, 0))).toMatchObject({
    stored: 2,
    parked: 2,
  })
  expect(await letterOf(tooOld)).toMatchObject({ code: 'too_old', stage: 'store', acknowledged: true })
})

it('stores names and texts full of SQL as they are', async () => {
  const log = new TestLog(`test ${streams++}`)
  const name = `"'; drop table reading; --\\ $1 {},NULL`
  const event = eventOf(name, [{ metric: name, unit: name, text: name }], { gateway: name })
  expect(await log.write(store, event)).toMatchObject({ stored: 1 })
  expect(await log.write(store, event)).toMatchObject({ duplicate: 1 })
  expect(await database.rows('select device, metric, unit, text from telemetry where device = $1', [name])).toEqual([
    { device: name, metric: name, unit: name, text: name },
  ])
})
