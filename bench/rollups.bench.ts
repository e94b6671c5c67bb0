/**
 * What a round of rollups costs: `DATABASE_URL=postgres://… node bench/rollups.bench.ts` on an empty database of a scratch server.
 * One bucket of 1,000 series (500 devices of two metrics), with more and more readings in it; prints the time of computing all of them once,
 * which is spent in Postgres, and the CPU of this process.
 */
import pg from 'pg'
import { silentLog } from '#platform/log.ts'
import { migrate } from '#platform/migrate.ts'
import { computeSome } from '#worker/rollup/compute.ts'
import { openRanges } from '#worker/rollup/rollups.ts'
import { startPartitions } from '#worker/store/partitions.ts'

const databaseUrl = process.env.DATABASE_URL
if (databaseUrl === undefined) throw new Error('DATABASE_URL names a scratch database')
const devices = 500
const metrics = 2
const series = devices * metrics

await migrate(databaseUrl, silentLog)
await using opened = new AsyncDisposableStack()
const pool = new pg.Pool({ connectionString: databaseUrl, max: 3 })
opened.defer(() => pool.end())
const readings = opened.use(await startPartitions({ pool, width: 'day', log: silentLog, onMade: () => {} }))
const tools = await openRanges(opened, { pool, readings, tenMinutes: '400d', hours: 'forever', log: silentLog })
const client = await pool.connect()
opened.defer(() => client.release())
await client.query(
  `insert into device (tenant_id, external_id) select 1, 'bench-' || n from generate_series(1, $1::int) n`,
  [devices],
)
await client.query(`insert into metric (tenant_id, name) select 1, 'm-' || n from generate_series(1, $1::int) n`, [
  metrics,
])

let stored = 0
for (const rows of [0, 100, 1000, 6000]) {
  // Interleaved by time, as they arrive: the rows of a series do not lie together.
  await client.query(
    `insert into reading (device_id, metric_id, event_time, ingest_time, value)
      select d, m, date_bin('1 day', now(), 'epoch') + n * interval '50 ms', now(), n + d
      from generate_series($1::int, $2::int - 1) n, generate_series(1, $3::int) d, generate_series(1, $4::int) m`,
    [stored, rows, devices, metrics],
  )
  stored = rows
  await client.query('vacuum analyze reading')
  await client.query(
    `insert into rollup_dirty (epoch, device_id, metric_id, bucket)
      select r.epoch, d, m, date_bin('1 day', now(), 'epoch') from rollup_round r, generate_series(1, $1::int) d, generate_series(1, $2::int) m`,
    [devices, metrics],
  )
  await client.query('update rollup_round set epoch = epoch + 1')
  const cpu = process.cpuUsage()
  const startedAt = performance.now()
  let chunks = 0
  for (let isMore = true; isMore; chunks++) isMore = (await computeSome(client, tools, 200))?.isMore === true
  const ms = performance.now() - startedAt
  const { user, system } = process.cpuUsage(cpu)
  console.log(
    `${series} buckets of ${rows} readings: ${Math.round(ms)} ms in ${chunks} transactions, ${((ms * 1000) / (series * Math.max(1, rows))).toFixed(2)} µs a reading; ` +
      `${((user + system) / series).toFixed(0)} µs CPU a bucket in this process`,
  )
}
