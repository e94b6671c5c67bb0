import { readFileSync } from 'node:fs'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { migratedDatabase } from '#test/servers/fresh.ts'

const page = readFileSync(new URL('./queries.md', import.meta.url), 'utf8')
const examples = [...page.matchAll(/([^\n]+)\n```sql\n([\s\S]+?)```/g)].map((match) => ({
  name: match[1] as string,
  sql: match[2] as string,
}))
const shell = /fleetbridge sql "([^"]+)"/.exec(page)?.[1] as string

let database: Awaited<ReturnType<typeof migratedDatabase>>
let owner: pg.Client
let reader: pg.Client

beforeAll(async () => {
  database = await migratedDatabase()
  owner = new pg.Client(database.url)
  reader = new pg.Client(database.url)
  await Promise.all([owner.connect(), reader.connect()])
  await owner.query(fill)
  await reader.query('SET ROLE fleetbridge_reader')
})
afterAll(async () => {
  await Promise.all([owner?.end(), reader?.end()])
  await database?.[Symbol.asyncDispose]()
})

/** Two devices, one of them silent and with a weak battery; the same metric in two units; a wild clock; a stuck sensor. */
const fill = `
  CREATE TABLE reading_all PARTITION OF reading FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
  CREATE TABLE rollup_10m_all PARTITION OF rollup_10m FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
  CREATE TABLE rollup_1h_all PARTITION OF rollup_1h FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
  INSERT INTO device (tenant_id, external_id, type, site, attributes)
    VALUES (1, 'pump-1', 'pump', 'north', '{"firmware": "1.2"}'), (1, 'pump-2', 'pump', 'south', '{"fw_version": "1.1"}');
  INSERT INTO metric (tenant_id, name, unit) VALUES (1, 'temperature', 'Cel'), (1, 'temperature', 'K'), (1, 'running', NULL), (1, 'battery', '%EL');
  INSERT INTO reading (device_id, metric_id, event_time, ingest_time, value, flag, clock)
    SELECT 1, m, t, t + interval '1 second', CASE m WHEN 1 THEN 90 WHEN 4 THEN 55 END, CASE m WHEN 3 THEN extract(minute FROM t) < 30 END,
      CASE WHEN m = 4 THEN 2 ELSE 0 END
    FROM unnest(ARRAY[1, 3, 4]) m, generate_series(now() - interval '3 hours', now(), interval '5 minutes') t;
  INSERT INTO reading (device_id, metric_id, event_time, ingest_time, value)
    SELECT 2, m, now() - interval '2 hours', now() - interval '2 hours', CASE m WHEN 2 THEN 293 ELSE 12 END FROM unnest(ARRAY[2, 4]) m;
  INSERT INTO latest (device_id, metric_id, event_time, ingest_time, value, flag)
    SELECT DISTINCT ON (device_id, metric_id) device_id, metric_id, event_time, ingest_time, value, flag FROM reading ORDER BY 1, 2, 3 DESC;
  INSERT INTO rollup_1h SELECT device_id, metric_id, date_bin('1 hour', event_time, '2001-01-01Z'), count(*), min(value), max(value), sum(value),
    max(event_time), max(value) FROM reading GROUP BY 1, 2, 3;
  INSERT INTO dead_letter (id, tenant, device, source, stage, code, message, acknowledged, ingest_time)
    VALUES (gen_random_uuid(), 'default', 'pump-1', 'mqtt', 'decode', 'malformed', 'no JSON', true, now());
  INSERT INTO ingest_offset (stream, partition, next_offset) VALUES ('direct', 0, 1)`

it('has the questions that people ask', () => {
  expect(examples.length).toBeGreaterThan(18)
})

it.each(examples)('$name', async ({ sql }) => {
  const { rows, fields } = await reader.query(sql)
  expect(rows.length).toBeGreaterThan(0)
  // A column that is null everywhere would say that the example, or its data, is wrong.
  for (const { name } of fields)
    if (name !== 'topic')
      expect(
        rows.some((row) => row[name] !== null),
        name,
      ).toBe(true)
})

it('knows silence, batteries and firmware', async () => {
  expect((await reader.query(shell)).rows).toEqual([{ device: 'pump-2', battery: 12 }])
  const { rows } = await reader.query(
    `SELECT device, battery, firmware, extract(epoch FROM silent_for)::int / 3600 AS hours FROM device_status ORDER BY 1`,
  )
  expect(rows).toEqual([
    { device: 'pump-1', battery: 55, firmware: '1.2', hours: 0 },
    { device: 'pump-2', battery: 12, firmware: '1.1', hours: 2 },
  ])
})
