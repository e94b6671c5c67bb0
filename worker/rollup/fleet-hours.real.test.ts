import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { silentLog } from '#platform/log.ts'
import { migratedDatabase } from '#test/servers/fresh.ts'
import { startFleetHours } from './fleet-hours.ts'

let database: Awaited<ReturnType<typeof migratedDatabase>>
let pool: pg.Pool

beforeAll(async () => {
  database = await migratedDatabase()
  pool = new pg.Pool({ connectionString: database.url, max: 3 })
})
afterAll(async () => {
  await pool?.end()
  await database?.[Symbol.asyncDispose]()
})

it('computes what is marked, in as many steps as it takes, with another one at it', async () => {
  await pool.query(`
    CREATE TABLE rollup_1h_all PARTITION OF rollup_1h FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
    INSERT INTO rollup_1h (device_id, metric_id, bucket, count, min, max, sum, last_time)
      SELECT d, 1, t, 2, d, d, 2 * d, t FROM generate_series(1, 3) d, generate_series('2026-06-01Z'::timestamptz, '2026-06-06 04:00Z', interval '1 hour') t`)
  await using first = startFleetHours({ pool, log: silentLog, everyMs: 20 })
  await using second = startFleetHours({ pool, log: silentLog, everyMs: 20 })
  await expect.poll(async () => (await pool.query('SELECT FROM rollup_fleet_dirty')).rowCount).toBe(0)
  const { rows } = await pool.query(
    'SELECT devices, count::int, sum, min, max, count(*)::int AS hours FROM rollup_fleet_1h GROUP BY 1, 2, 3, 4, 5',
  )
  expect(rows).toEqual([{ devices: 3, count: 6, sum: 12, min: 1, max: 3, hours: 125 }])
  await Promise.all([first.close(), second.close()])
})
