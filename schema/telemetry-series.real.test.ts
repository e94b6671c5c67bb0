import { randomInt } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { migratedDatabase } from '#test/servers/fresh.ts'

const begin = Date.parse('2026-06-01T00:00:00Z')
const minute = 60_000
const hour = 60 * minute
const minutes = 10 * 24 * 60

let database: Awaited<ReturnType<typeof migratedDatabase>>
let client: pg.Client

beforeAll(async () => {
  database = await migratedDatabase()
  client = new pg.Client(database.url)
  await client.connect()
  await client.query(`
    CREATE TABLE reading_all PARTITION OF reading FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
    CREATE TABLE rollup_10m_all PARTITION OF rollup_10m FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
    CREATE TABLE rollup_1h_all PARTITION OF rollup_1h FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
    INSERT INTO device (tenant_id, external_id) VALUES (1, 'pump-1'), (1, 'pump-2');
    INSERT INTO metric (tenant_id, name, unit) VALUES (1, 'temperature', 'Cel'), (1, 'temperature', 'K'), (1, 'state', NULL)`)
})
afterAll(async () => {
  await client?.end()
  await database?.[Symbol.asyncDispose]()
})
beforeEach(() =>
  client.query(
    'TRUNCATE reading, rollup_10m, rollup_1h, rollup_dirty, rollup_state, rollup_fleet_1h, rollup_fleet_dirty',
  ),
)

describe('telemetry_series', () => {
  it('tells the same from rollups, from readings, and from what is half computed', async () => {
    const seed = Number(process.env.SEED ?? randomInt(2 ** 31))
    console.log(`SEED=${seed}`)
    const random = mulberry32(seed)
    const within = (count: number) => Math.floor(random() * count)
    const readings = Array.from({ length: 4000 }, () => readingOf(begin + within(minutes * 4) * 15_000, random))
    const early = readings.slice(0, 2500)
    await insert(early)
    await computeRollups()
    const processed = begin + within(minutes) * minute
    await client.query(`INSERT INTO rollup_state (tenant_id, processed_until) VALUES (1, $1)`, [new Date(processed)])
    // Late ones, whose buckets are only marked.
    await insert(readings.slice(2500))
    await client.query(
      `INSERT INTO rollup_dirty (epoch, device_id, metric_id, bucket) SELECT 1, 1, 1, date_bin('10 minutes', t, '2001-01-01Z') FROM unnest($1::timestamptz[]) t`,
      [readings.slice(2500).map(({ time }) => new Date(time))],
    )
    for (let round = 0; round < 60; round++) {
      const from = begin + within(minutes) * minute + within(60_000)
      const to = from + within(3 * 24 * 60) * minute + 1
      const step = ([1, 7, 10, 15, 20, 60, 90, 180, 1440] as const)[within(9)] as number
      const { rows } = await client.query(
        `SELECT "time", avg, min, max, count::int, last, last_text, last_flag FROM telemetry_series('pump-1', 'temperature', $1, $2, $3) WHERE unit = 'Cel'`,
        [new Date(from), new Date(to), `${step} minutes`],
      )
      const wanted = seriesOf(readings, from, to, step * minute)
      expect(
        rows.map(({ avg, ...row }) => row),
        `${step} minutes from ${new Date(from).toISOString()}`,
      ).toEqual(wanted.map(({ avg: _, ...row }) => row))
      for (const [index, { avg }] of rows.entries())
        if (avg === null) expect(wanted[index]?.avg).toBe(null)
        else expect(avg).toBeCloseTo(wanted[index]?.avg as number, 8)
    }
  })

  it('answers from rollups where the retention took the readings, and from hours where it took tens of minutes', async () => {
    const readings = Array.from({ length: minutes }, (_, index) => ({
      ...readingOf(begin + index * minute, () => 0.5),
      value: index,
    }))
    await insert(readings)
    await computeRollups()
    const dayOf = (day: number) => new Date(begin + day * 24 * hour)
    await client.query('DELETE FROM reading WHERE event_time < $1', [dayOf(6)])
    await client.query('DELETE FROM rollup_10m WHERE bucket < $1', [dayOf(3)])
    await client.query(`INSERT INTO rollup_state (tenant_id, processed_until, readings_from) VALUES (1, $1, $2)`, [
      dayOf(9),
      dayOf(6),
    ])
    const count = async (step: string, from: number, to: number) => {
      const { rows } = await client.query(
        `SELECT count::int, avg FROM telemetry_series('pump-1', 'temperature', $1, $2, $3)`,
        [dayOf(from), dayOf(to), step],
      )
      expect(
        rows.reduce((total, row) => total + row.count, 0),
        step,
      ).toBe((to - from) * 1440)
      return rows.length
    }
    expect(await count('1 minute', 0, 10), 'hours, then tens of minutes, then minutes').toBe(
      3 * 24 + 3 * 144 + 4 * 1440,
    )
    expect(await count('10 minutes', 0, 10)).toBe(3 * 24 + 7 * 144)
    expect(await count('1 hour', 0, 10)).toBe(240)
    expect(await count('1 day', 0, 10)).toBe(10)
    const { rows } = await client.query(`SELECT avg FROM telemetry_series('pump-1', 'temperature', $1, $2, '1 day')`, [
      dayOf(0),
      dayOf(1),
    ])
    expect(rows).toEqual([{ avg: 719.5 }])
  })

  it('reads the table that is cheapest, and of it the range in question', async () => {
    await insert([readingOf(begin, () => 0.5)])
    await client.query(`INSERT INTO rollup_state (tenant_id, processed_until) VALUES (1, $1)`, [
      new Date(begin + 9 * 24 * hour),
    ])
    await client.query(
      `INSERT INTO rollup_10m (device_id, metric_id, bucket, count, min, max, sum, last_time) VALUES (1, 1, $1, 1, 10, 10, 10, $1)`,
      [new Date(begin)],
    )
    await client.query(
      `INSERT INTO rollup_1h (device_id, metric_id, bucket, count, min, max, sum, last_time) VALUES (1, 1, $1, 1, 60, 60, 60, $1)`,
      [new Date(begin)],
    )
    const average = async (step: string) =>
      (
        await client.query(`SELECT avg FROM telemetry_series('pump-1', 'temperature', $1, $2, $3)`, [
          new Date(begin),
          new Date(begin + hour),
          step,
        ])
      ).rows[0]?.avg
    expect(await average('30 minutes')).toBe(10)
    expect(await average('2 hours')).toBe(60)
    expect(await average('1 minute')).toBe(50)
    expect(await average('15 minutes')).toBe(50)
  })

  it('keeps units apart, and texts and flags whole', async () => {
    await client.query(
      `INSERT INTO reading (device_id, metric_id, event_time, ingest_time, value, text, flag) VALUES
        (1, 1, $1, now(), 20, NULL, NULL), (1, 2, $1, now(), 293, NULL, NULL), (1, 3, $1, now(), NULL, 'on', NULL), (2, 3, $1, now(), NULL, NULL, false)`,
      [new Date(begin)],
    )
    const ask = async (device: string, metric: string) =>
      (
        await client.query(
          `SELECT unit, avg, count::int, last_text, last_flag FROM telemetry_series($1, $2, $3, $4, '1 minute')`,
          [device, metric, new Date(begin), new Date(begin + hour)],
        )
      ).rows
    expect(await ask('pump-1', 'temperature')).toMatchObject([
      { unit: 'Cel', avg: 20 },
      { unit: 'K', avg: 293 },
    ])
    expect(await ask('pump-1', 'state')).toEqual([
      { unit: null, avg: null, count: 1, last_text: 'on', last_flag: null },
    ])
    expect(await ask('pump-2', 'state')).toEqual([
      { unit: null, avg: null, count: 1, last_text: null, last_flag: false },
    ])
    expect(await ask('pump-3', 'state')).toEqual([])
    expect(await ask('pump-1', "' OR true --")).toEqual([])
  })

  it.each([
    [`now(), now(), '1 month'`, /no months or years/],
    [`now(), now(), '0 minutes'`, /positive/],
    [`now(), now(), NULL`, /positive/],
    [`'-infinity', now(), '1 hour'`, /needs a from and a to/],
    [`NULL, now(), '1 hour'`, /needs a from and a to/],
  ])('says what is wrong with %s', async (values, message) => {
    await expect(client.query(`SELECT * FROM telemetry_series('pump-1', 'temperature', ${values})`)).rejects.toThrow(
      message,
    )
  })
})

describe('telemetry_fleet_1h', () => {
  const wantedHours = `SELECT t.name AS tenant, m.name AS metric, m.unit, r.bucket AS "time", count(*)::int AS devices, sum(r.count) AS count,
    round((sum(r.sum) / sum(r.count))::numeric, 6) AS avg, min(r.min), max(r.max)
    FROM rollup_1h r JOIN metric m ON m.id = r.metric_id JOIN tenant t ON t.id = m.tenant_id GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4`
  const hours = `SELECT tenant, metric, unit, "time", devices, count, round(avg::numeric, 6) AS avg, min, max FROM telemetry_fleet_1h ORDER BY 1, 2, 3, 4`
  const change = async (random: () => number) => {
    const at = new Date(begin + Math.floor(random() * 30) * hour)
    const device = 1 + Math.floor(random() * 2)
    if (random() < 0.25) return client.query('DELETE FROM rollup_1h WHERE device_id = $1 AND bucket = $2', [device, at])
    return client.query(
      `INSERT INTO rollup_1h (device_id, metric_id, bucket, count, min, max, sum, last_time) SELECT $1, m, $2, $3::integer, $4::float8, $4::float8, $4::float8 * $3::integer, $2 FROM generate_series(1, 2) m
        ON CONFLICT (device_id, metric_id, bucket) DO UPDATE SET count = excluded.count, min = excluded.min, max = excluded.max, sum = excluded.sum`,
      [device, at, 1 + Math.floor(random() * 9), random() * 100],
    )
  }

  it('is what the hours of the devices come to, at any moment', async () => {
    const seed = Number(process.env.SEED ?? randomInt(2 ** 31))
    console.log(`SEED=${seed}`)
    const random = mulberry32(seed)
    for (let round = 0; round < 30; round++) {
      for (let count = 0; count < 5; count++) await change(random)
      expect((await client.query(hours)).rows).toEqual((await client.query(wantedHours)).rows)
      await client.query('SELECT fleetbridge_fleet_rollup($1)', [1 + Math.floor(random() * 8)])
      expect((await client.query(hours)).rows).toEqual((await client.query(wantedHours)).rows)
    }
    while ((await client.query('SELECT fleetbridge_fleet_rollup() AS hours')).rows[0].hours > 0);
    expect((await client.query('SELECT FROM rollup_fleet_dirty')).rowCount).toBe(0)
    expect((await client.query(hours)).rows).toEqual((await client.query(wantedHours)).rows)
  })

  it('loses no change of a transaction that is open while hours are computed, and waits for none', async () => {
    const other = new pg.Client(database.url)
    await other.connect()
    const insertOf = (device: number, value: number) =>
      `INSERT INTO rollup_1h (device_id, metric_id, bucket, count, min, max, sum, last_time) VALUES (${device}, 1, '2026-06-01Z', 1, ${value}, ${value}, ${value}, '2026-06-01Z')`
    await client.query(insertOf(1, 10))
    await other.query('BEGIN')
    await other.query(insertOf(2, 30))
    await client.query('SELECT fleetbridge_fleet_rollup()')
    expect((await client.query('SELECT avg FROM telemetry_fleet_1h')).rows).toEqual([{ avg: 10 }])
    await other.query('COMMIT')
    expect((await client.query('SELECT avg FROM telemetry_fleet_1h')).rows).toEqual([{ avg: 20 }])
    await client.query('SELECT fleetbridge_fleet_rollup()')
    expect((await client.query('SELECT avg FROM telemetry_fleet_1h')).rows).toEqual([{ avg: 20 }])
    await other.end()
  })
})

interface Reading {
  readonly time: number
  readonly value: number | null
  readonly text: string | null
}

/** One in ten is a text. */
function readingOf(time: number, random: () => number): Reading {
  return random() < 0.1
    ? { time, value: null, text: `t${Math.floor(random() * 5)}` }
    : { time, value: Math.round(random() * 1e6) / 1e4, text: null }
}

async function insert(readings: readonly Reading[]): Promise<void> {
  await client.query(
    `INSERT INTO reading (device_id, metric_id, event_time, ingest_time, value, text, ordinal)
      SELECT 1, 1, r.t, r.t, r.v, r.x, r.n + (SELECT count(*) FROM reading e WHERE e.device_id = 1 AND e.metric_id = 1 AND e.event_time = r.t)
      FROM (SELECT t, v, x, row_number() OVER (PARTITION BY t ORDER BY o) - 1 AS n
        FROM unnest($1::timestamptz[], $2::float8[], $3::text[]) WITH ORDINALITY u (t, v, x, o)) r`,
    [readings.map(({ time }) => new Date(time)), readings.map(({ value }) => value), readings.map(({ text }) => text)],
  )
}

/** As the worker does, in one statement. */
async function computeRollups(): Promise<void> {
  for (const [table, width] of [
    ['rollup_10m', '10 minutes'],
    ['rollup_1h', '1 hour'],
  ])
    await client.query(
      `INSERT INTO ${table} SELECT device_id, metric_id, date_bin('${width}', event_time, '2001-01-01Z'), coalesce(nullif(count(value), 0), count(*)),
        min(value), max(value), sum(value), max(event_time), (array_agg(value ORDER BY event_time DESC, ordinal DESC))[1],
        (array_agg(text ORDER BY event_time DESC, ordinal DESC))[1], NULL FROM reading GROUP BY 1, 2, 3`,
    )
}

function seriesOf(readings: readonly Reading[], from: number, to: number, step: number) {
  const origin = Date.parse('2001-01-01T00:00:00Z')
  const bin = (time: number) => origin + Math.floor((time - origin) / step) * step
  const inRange = readings.filter(({ time }) => time >= bin(from) && time < bin(to - 0.001) + step)
  // A sort that keeps the order of equal times, which is that of their ordinals.
  const bins = Map.groupBy(
    inRange.toSorted((a, b) => a.time - b.time),
    ({ time }) => bin(time),
  )
  return [...bins].map(([time, members]) => {
    const numbers = members.flatMap(({ value }) => (value === null ? [] : [value]))
    const last = members.at(-1) as Reading
    return {
      time: new Date(time),
      avg: numbers.length === 0 ? null : numbers.reduce((sum, value) => sum + value, 0) / numbers.length,
      min: numbers.length === 0 ? null : Math.min(...numbers),
      max: numbers.length === 0 ? null : Math.max(...numbers),
      count: numbers.length === 0 ? members.length : numbers.length,
      last: last.value,
      last_text: last.text,
      last_flag: null,
    }
  })
}

function mulberry32(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
