/**
 * What the questions of docs/queries.md take: `node bench/queries.bench.ts` fills a Postgres of its own with READINGS (10,000,000) of DEVICES
 * (10,000) with two metrics each, evenly over the last week, and rollups of them; then asks each question RUNS (21) times of changing devices, as
 * fleetbridge_reader and as a tenant's role. Prints a table, and with PLANS=1 a plan of each. Takes about 6 minutes and 6 GB in the temporary folder.
 */

import { availableParallelism, cpus } from 'node:os'
import pg from 'pg'
import { silentLog } from '#platform/log.ts'
import { migrate } from '#platform/migrate.ts'
import { startPostgres } from '#test/servers/postgres.ts'
import { startPartitions } from '#worker/store/partitions.ts'

const readings = Number(process.env.READINGS ?? 10_000_000)
const devices = Number(process.env.DEVICES ?? 10_000)
const runs = Number(process.env.RUNS ?? 21)
const days = 7
const metrics = ['temperature', 'battery']
const hourMs = 3_600_000
const dayMs = 24 * hourMs

/** `$device` is another one each time. */
const questions = [
  {
    name: 'latest of a device',
    sql: `SELECT metric, value, text, flag, unit, time FROM telemetry_latest WHERE tenant = 'default' AND device = $device`,
  },
  {
    name: 'one metric of a device for a day, every reading',
    sql: `SELECT time, value FROM telemetry WHERE tenant = 'default' AND device = $device AND metric = 'temperature' AND time >= now() - interval '1 day' ORDER BY time`,
  },
  {
    name: 'the same by telemetry_series, 10 minutes',
    sql: `SELECT * FROM telemetry_series($device, 'temperature', now() - interval '1 day', now(), '10 minutes')`,
  },
  {
    name: 'the same for a week, by hours',
    sql: `SELECT * FROM telemetry_series($device, 'temperature', now() - interval '7 days', now(), '1 hour')`,
  },
  {
    name: 'fleet average per hour for a week',
    sql: `SELECT time, avg, min, max, devices FROM telemetry_fleet_1h WHERE tenant = 'default' AND metric = 'temperature' AND time >= now() - interval '7 days' ORDER BY time`,
  },
  {
    name: 'devices silent for an hour',
    sql: `SELECT device, type, site, silent_for FROM device_status WHERE tenant = 'default' AND status = 'enabled' AND (silent_for IS NULL OR silent_for > interval '1 hour') ORDER BY silent_for DESC NULLS FIRST LIMIT 500`,
  },
  {
    name: 'weak batteries of the fleet',
    sql: `SELECT device, site, battery FROM device_status WHERE tenant = 'default' AND status = 'enabled' AND battery < 20 ORDER BY battery`,
  },
  {
    name: 'top talkers of the last day',
    sql: `SELECT device, sum(count) AS readings FROM telemetry_1h WHERE tenant = 'default' AND time >= now() - interval '1 day' GROUP BY device ORDER BY readings DESC LIMIT 20`,
  },
]

await using server = await startPostgres()
await migrate(server.url, silentLog)
const owner = new pg.Client(server.url)
await owner.connect()
await fill()
await owner.query(`SELECT fleetbridge_create_tenant_reader('default')`)
console.log(
  `\n${availableParallelism()} × ${cpus()[0]?.model ?? 'unknown'}, ${(await one('SHOW server_version')) as string}, shared_buffers ${(await one('SHOW shared_buffers')) as string}; ` +
    `${await one('SELECT count(*)::int FROM reading')} readings of ${devices} devices, ${await one('SELECT count(*)::int FROM rollup_1h')} hours, ` +
    `${Math.round(((await one('SELECT pg_database_size(current_database())::float8')) as number) / 2 ** 20)} MB; milliseconds, ${runs} runs\n`,
)
console.log('| question | rows | median | slowest | median as tenant |\n| --- | ---: | ---: | ---: | ---: |')
const plans: string[] = []
for (const { name, sql } of questions) {
  await as('fleetbridge_reader')
  const reader = await time(sql)
  if (process.env.PLANS === '1') plans.push(`-- ${name}\n${await planOf(sql)}`)
  await as('fleetbridge_tenant_default')
  const tenant = await time(sql)
  console.log(
    `| ${name} | ${reader.rows} | ${reader.median.toFixed(1)} | ${reader.slowest.toFixed(1)} | ${tenant.median.toFixed(1)} |`,
  )
}
console.log(`\n${plans.join('\n\n')}`)
await owner.end()

async function fill(): Promise<void> {
  const step = `interval '${Math.round((days * 86_400 * devices * metrics.length) / readings)} seconds'`
  const now = Date.now()
  const pool = new pg.Pool({ connectionString: server.url, max: 2 })
  for (const table of ['reading', 'rollup_10m', 'rollup_1h'] as const) {
    const width = table === 'reading' ? 'day' : 'month'
    await using partitions = await startPartitions({ pool, table, width, log: silentLog, onMade: () => {} })
    await partitions.make(Array.from({ length: days + 1 }, (_, back) => now - back * dayMs))
  }
  await owner.query(`SET synchronous_commit = off; SET work_mem = '512MB'; SET timezone = 'UTC'`)
  await owner.query(
    `INSERT INTO device (tenant_id, external_id, type, site, attributes)
      SELECT 1, 'pump-' || n, 'pump', 'site-' || n % 20, jsonb_build_object('firmware', '1.' || n % 5) FROM generate_series(1, $1::int) n`,
    [devices],
  )
  await owner.query(
    `INSERT INTO metric (tenant_id, name, unit) SELECT 1, n, CASE n WHEN 'battery' THEN '%EL' ELSE 'Cel' END FROM unnest($1::text[]) n`,
    [metrics],
  )
  // In the order of time, as a fleet writes; every 50th device ended two hours ago.
  for (let from = now - days * dayMs; from < now; from += dayMs) {
    await timed(`readings of ${new Date(from).toISOString().slice(0, 10)}`, async () =>
      owner.query(
        `INSERT INTO reading (device_id, metric_id, event_time, ingest_time, value)
          SELECT d.id, m.id, e.at, e.at + interval '1 second', CASE m.name WHEN 'battery' THEN 10 + d.id % 90 ELSE 20 + d.id % 17 + random() END
          FROM generate_series($1::timestamptz, $2::timestamptz - interval '1 millisecond', ${step}) t (at)
          CROSS JOIN device d CROSS JOIN metric m
          CROSS JOIN LATERAL (SELECT t.at + d.id * ${step} / $3::int AS at) e
          WHERE e.at < now() - CASE WHEN d.id % 50 = 0 THEN interval '2 hours' ELSE interval '0' END
          ORDER BY t.at`,
        [new Date(from), new Date(from + dayMs), devices],
      ),
    )
  }
  for (const [table, width] of [
    ['rollup_10m', '10 minutes'],
    ['rollup_1h', '1 hour'],
  ])
    await timed(table as string, async () => {
      // A day at a time: all at once would be sorted on disk.
      for (let from = Math.floor((now - days * dayMs) / dayMs) * dayMs; from < now; from += dayMs)
        await owner.query(
          `INSERT INTO ${table} SELECT device_id, metric_id, date_bin('${width}', event_time, '2001-01-01Z'), count(value), min(value), max(value), sum(value),
            max(event_time), max(value) FROM reading WHERE event_time >= $1 AND event_time < $2 GROUP BY 1, 2, 3 ORDER BY 3`,
          [new Date(from), new Date(from + dayMs)],
        )
    })
  await owner.query(
    `INSERT INTO latest (device_id, metric_id, event_time, ingest_time, value)
      SELECT DISTINCT ON (device_id, metric_id) device_id, metric_id, event_time, ingest_time, value
      FROM reading WHERE event_time > now() - interval '4 hours' ORDER BY device_id, metric_id, event_time DESC`,
  )
  await owner.query(`INSERT INTO rollup_state (tenant_id, processed_until) VALUES (1, now() - interval '10 seconds')`)
  await timed('hours of the fleet', async () => {
    while (((await one('SELECT fleetbridge_fleet_rollup()')) as number) > 0);
  })
  // As it is while devices send: the current hour and the one before have changed since.
  await owner.query(`UPDATE rollup_1h SET count = count WHERE bucket >= date_trunc('hour', now() - interval '1 hour')`)
  await timed('vacuum', () => owner.query('VACUUM ANALYZE'))
  await pool.end()
}

async function as(role: string): Promise<void> {
  await owner.query(`RESET ROLE; SET work_mem TO DEFAULT; SET ROLE ${role}; SET search_path = ${role}, public`)
}

async function time(sql: string): Promise<{ rows: number; median: number; slowest: number }> {
  const times: number[] = []
  let rows = 0
  for (let run = 0; run < runs; run++) {
    const text = of(sql, run)
    const startedAt = performance.now()
    const answer = await owner.query(text)
    times.push(performance.now() - startedAt)
    rows = answer.rows.length
  }
  times.sort((a, b) => a - b)
  return { rows, median: times[runs >> 1] as number, slowest: times.at(-1) as number }
}

async function planOf(sql: string): Promise<string> {
  const { rows } = await owner.query(`EXPLAIN (ANALYZE, COSTS OFF, BUFFERS OFF) ${of(sql, 3)}`)
  return rows.map((row) => row['QUERY PLAN'] as string).join('\n')
}

function of(sql: string, run: number): string {
  return sql.replace('$device', `'pump-${1 + ((run * 397) % devices)}'`)
}

async function one(sql: string): Promise<unknown> {
  const { rows } = await owner.query({ text: sql, rowMode: 'array' })
  return rows[0]?.[0]
}

async function timed(name: string, work: () => Promise<unknown>): Promise<void> {
  const startedAt = performance.now()
  await work()
  console.log(`${name}: ${((performance.now() - startedAt) / 1000).toFixed(1)} s`)
}
