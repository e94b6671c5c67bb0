import { readFileSync } from 'node:fs'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { silentLog } from '#platform/log.ts'
import { migrate } from '#platform/migrate.ts'
import { freshDatabase } from '#test/servers/fresh.ts'

const page = readFileSync(new URL('./schema.md', import.meta.url), 'utf8')
const examples = [...page.matchAll(/```sql\n([\s\S]+?)```/g)].map((match) => match[1] as string)

let database: Awaited<ReturnType<typeof freshDatabase>>
let client: pg.Client

beforeAll(async () => {
  database = await freshDatabase()
  await migrate(database.url, silentLog)
  client = new pg.Client({ connectionString: database.url })
  await client.connect()
  await client.query(`
    create table reading_all partition of reading for values from (minvalue) to (maxvalue);
    insert into device (tenant_id, external_id) values (1, 'pump-1');
    insert into metric (tenant_id, name, unit) values (1, 'temperature', 'Cel');
    insert into reading (device_id, metric_id, event_time, ingest_time, value) values (1, 1, now() - interval '1 minute', now(), 90);
    insert into latest (device_id, metric_id, event_time, ingest_time, value) select device_id, metric_id, event_time, now() - interval '2 hours', value from reading;
    create table rollup_1h_all partition of rollup_1h for values from (minvalue) to (maxvalue);
    insert into rollup_1h (device_id, metric_id, bucket, count, min, max, sum, last_time, last_value)
      select device_id, metric_id, date_trunc('hour', event_time), 1, value, value, value, event_time, value from reading;
    create table rollup_10m_all partition of rollup_10m for values from (minvalue) to (maxvalue);
    insert into rollup_10m (device_id, metric_id, bucket, count, min, max, sum, last_time, last_value)
      select device_id, metric_id, date_bin('10 minutes', event_time, '2001-01-01'), 1, value, value, value, event_time, value from reading;
    insert into rollup_state (tenant_id, processed_until) values (1, now());
    insert into ingest_offset (stream, partition, next_offset, stored) values ('direct', 0, 1, 1);
    create table recent_message_all partition of recent_message for values from (minvalue) to (maxvalue);
    insert into recent_message (device_id, stored_day, message_key, ingest_time)
      values (1, current_date, encode(substring(sha256('m-17') for 16), 'hex')::uuid, now());
    insert into device_event (device_id, time, id, kind)
      select id, now(), gen_random_uuid(), 'lost' from device where external_id = 'pump-1';
    insert into dead_letter (id, tenant, device, source, stage, code, message, acknowledged, ingest_time, payload)
      values (gen_random_uuid(), 'default', 'pump-1', 'mqtt', 'decode', 'malformed', 'not JSON', false, now(), '{')`)
})
afterAll(async () => {
  await client?.end()
  await database?.[Symbol.asyncDispose]()
})

it('has examples', () => {
  expect(examples.length).toBeGreaterThan(8)
})

it.each(examples)('runs: %s', async (example) => {
  await client.query('begin')
  const results = [await client.query(example)].flat()
  await client.query('rollback')
  for (const { command, rowCount } of results) if (command === 'SELECT') expect(rowCount).toBe(1)
})

it('names every column of every view', async () => {
  const { rows } = await client.query(
    `select table_name, column_name from information_schema.columns c join information_schema.views using (table_schema, table_name) where table_schema = 'public'`,
  )
  const missing = rows.filter(({ column_name }) => !page.includes(`\`${column_name}\``))
  expect(missing).toEqual([])
})
