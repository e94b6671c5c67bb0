import { expect, it } from 'vitest'
import type { Reading, TelemetryEvent } from '#schema/telemetry-event.ts'
import { baseUs, deadLetterOf, eventOf, randomOf, storeDatabase, TestLog } from './store.fixture.ts'
import type { Store } from './store.ts'
import type { StreamSlice } from './stream-slice.ts'

type Value = number | string | boolean
const values: readonly Value[] = [0, -0, 1, 1.5, '1', '', 'on', true, false, 1e300]

/** What the tables must hold, written down the plain way: one message after the other, one reading after the other. */
class Model {
  readonly rows = new Map<string, Value[]>()
  readonly latest = new Map<string, { eventTimeUs: number; value: Value }>()
  readonly counts = new Map<number, { stored: number; duplicate: number; parked: number; readings: number }>()

  apply({ partition, records }: StreamSlice): void {
    const counts = this.counts.get(partition) ?? { stored: 0, duplicate: 0, parked: 0, readings: 0 }
    this.counts.set(partition, counts)
    for (const record of records) {
      if ('deviceEvent' in record) continue
      if ('deadLetter' in record) {
        counts.parked++
        continue
      }
      const fresh = record.event.readings.filter((reading) => this.#add(record.event.device, reading)).length
      counts.readings += fresh
      if (fresh > 0) counts.stored++
      else counts.duplicate++
    }
  }

  #add(device: string, { metric, unit, eventTimeUs, value, text, flag }: Reading): boolean {
    const series = `${device} ${metric} ${unit ?? '-'}`
    const key = `${series} ${eventTimeUs}`
    const known = this.rows.get(key) ?? []
    const actual = (value ?? text ?? flag) as Value
    if (known.some((other) => other === actual)) return false
    this.rows.set(key, [...known, actual])
    const latest = this.latest.get(series)
    if (latest === undefined || eventTimeUs >= latest.eventTimeUs)
      this.latest.set(series, { eventTimeUs, value: actual })
    return true
  }
}

const micros = (column: string) => `(extract(epoch from ${column}) * 1000000)::bigint::text`
const actualValue = ({ value, text, flag }: Record<string, unknown>) => (value ?? text ?? flag) as Value
/** Postgres keeps the sign of the first zero; to us they are one. */
const unsigned = (value: Value) => (value === 0 ? 0 : value)

it('agrees with a simple model, whatever the mix of duplicates, redeliveries, equal times, other values and restarts', async () => {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))
  console.log(`seed ${seed}`)
  const random = randomOf(seed)
  const below = (limit: number) => Math.floor(random() * limit)
  const pick = <Item>(items: readonly Item[]) => items[below(items.length)] as Item

  await using database = await storeDatabase()
  const model = new Model()
  const logs = [0, 1, 2, 3].map((partition) => new TestLog('random', partition, partition * 1000))
  const sent: TelemetryEvent[] = []
  const randomReading = (): Reading => {
    const value = pick(values)
    return {
      metric: pick(['a', 'b', 'c']),
      // Few instants, so that they meet; two of them in another partition of the table.
      eventTimeUs: baseUs + below(6) * 1_000_001 - (below(10) === 0 ? 86_400_000_000 : 0),
      ...(typeof value === 'number' ? { value } : typeof value === 'string' ? { text: value } : { flag: value }),
      ...(below(4) === 0 ? { unit: pick(['Cel', '%RH']) } : {}),
    }
  }
  const randomEvent = (): TelemetryEvent => {
    if (sent.length > 0 && below(4) === 0) return pick(sent)
    const event = eventOf(pick(['d1', 'd2', 'd3', 'd4']), Array.from({ length: 1 + below(4) }, randomReading))
    sent.push(event)
    return event
  }
  let store: Store = await database.open()
  for (let round = 0; round < 150; round++) {
    if (below(15) === 0) {
      await store.close()
      store = await database.open()
    }
    const slices = logs
      .filter(() => below(2) === 0)
      .map((log) =>
        log.slice(
          Array.from({ length: below(below(10) === 0 ? 200 : 12) }, () =>
            below(30) === 0 ? deadLetterOf() : randomEvent(),
          ),
        ),
      )
    await store.write(slices)
    for (const slice of slices) {
      model.apply(slice)
      ;(logs[slice.partition] as TestLog).nextOffset = slice.nextOffset
      // What a worker does that did not hear of its own commit.
      if (below(10) === 0 && slice.nextOffset > slice.fromOffset)
        await expect(store.write([slice])).rejects.toMatchObject({ code: 'BRIDGE_OFFSET_FENCED' })
    }
  }
  await store.close()

  const names = `d.external_id || ' ' || m.name || ' ' || coalesce(m.unit, '-')`
  const joined = 'join device d on d.id = r.device_id join metric m on m.id = r.metric_id'
  const rows = await database.rows(
    `select ${names} || ' ' || ${micros('r.event_time')} as key, r.ordinal, r.value, r.text, r.flag from reading r ${joined} order by 1, 2`,
  )
  const stored = new Map<string, Value[]>()
  for (const row of rows) {
    const list = stored.get(row.key as string) ?? []
    expect(row.ordinal, 'ordinals have no gaps').toBe(list.length)
    stored.set(row.key as string, [...list, unsigned(actualValue(row))])
  }
  const sorted = (map: Map<string, unknown>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1))
  const expected = new Map([...model.rows].map(([key, list]) => [key, list.map(unsigned)]))
  expect(sorted(stored)).toEqual(sorted(expected))

  const latest = await database.rows(
    `select ${names} as key, ${micros('r.event_time')} as us, r.value, r.text, r.flag from latest r ${joined}`,
  )
  expect(
    sorted(new Map(latest.map((row) => [row.key as string, [Number(row.us), unsigned(actualValue(row))]]))),
  ).toEqual(
    sorted(new Map([...model.latest].map(([key, { eventTimeUs, value }]) => [key, [eventTimeUs, unsigned(value)]]))),
  )

  const counts = await database.rows(
    `select partition, stored::int, duplicate::int, parked::int, readings::int from ingest_offset order by 1`,
  )
  expect(counts).toEqual(
    [...model.counts].sort(([a], [b]) => a - b).map(([partition, count]) => ({ partition, ...count })),
  )
  const [letters] = await database.rows('select count(*)::int as count from dead_letter')
  expect(letters?.count).toBe([...model.counts.values()].reduce((sum, { parked }) => sum + parked, 0))
})

it('keeps every value once when two stores write the same devices at once', async () => {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))
  console.log(`seed ${seed}`)
  const random = randomOf(seed)
  const below = (limit: number) => Math.floor(random() * limit)
  await using database = await storeDatabase()
  await using one = await database.open()
  await using two = await database.open()
  const expected = new Set<string>()
  const events = Array.from({ length: 1200 }, () => {
    const device = `d${below(3)}`
    const readings = Array.from({ length: 1 + below(3) }, () => {
      const reading = { metric: `m${below(4)}`, value: below(8), eventTimeUs: baseUs + below(5) }
      expected.add(`${device} ${reading.metric} ${reading.eventTimeUs} ${reading.value}`)
      return reading
    })
    return eventOf(device, readings)
  })
  const writeHalf = async (store: Store, partition: number) => {
    const log = new TestLog('both', partition)
    for (let from = 0; from < events.length; from += 30)
      // Both get all of them, each in its own order.
      await log.write(store, ...events.slice(from, from + 30).toSorted(() => random() - 0.5))
  }
  await Promise.all([writeHalf(one, 0), writeHalf(two, 1)])
  const rows = await database.rows(
    `select d.external_id || ' ' || m.name || ' ' || ${micros('r.event_time')} as instant, r.value, r.ordinal
     from reading r join device d on d.id = r.device_id join metric m on m.id = r.metric_id`,
  )
  expect(new Set(rows.map(({ instant, value }) => `${instant} ${value}`))).toEqual(expected)
  expect(rows, 'no value twice').toHaveLength(expected.size)
  const [sums] = await database.rows(
    'select sum(stored + duplicate)::int as messages, sum(readings)::int as readings from ingest_offset',
  )
  expect(sums).toEqual({ messages: 2400, readings: rows.length })
})
