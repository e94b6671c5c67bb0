import pg from 'pg'
import { expect, it, onTestFinished, vi } from 'vitest'
import { silentLog } from '#platform/log.ts'
import { migrate } from '#platform/migrate.ts'
import { freshDatabase } from '#test/servers/fresh.ts'
import { startPostgres } from '#test/servers/postgres.ts'
import { acknowledgement } from './acknowledgement.ts'
import { clocks } from './clocks.ts'
import { findingsOf, shortened } from './context.fixture.ts'
import { activityCheck, databaseActivity } from './database-activity.ts'
import { databaseSize } from './database-size.ts'
import { migrations } from './migrations.ts'
import { partitions } from './partitions.ts'
import { postgresServer } from './postgres-server.ts'
import { rollups } from './rollups.ts'

vi.setConfig({ testTimeout: 60_000 })

it('postgres: a server that would lose what it acknowledged, as the one of the tests', async () => {
  await using database = await freshDatabase()
  const findings = shortened(await findingsOf(postgresServer, { DATABASE_URL: database.url }))
  expect(findings).toEqual([
    expect.stringMatching(/^ok: DATABASE_URL: Postgres \d+/),
    expect.stringMatching(/^fail: fsync is off.*\| psql "\$DATABASE_URL" -c "ALTER SYSTEM SET fsync = on"/),
    expect.stringMatching(/^fail: full_page_writes is off/),
  ])
  expect(await findingsOf(acknowledgement, { DATABASE_URL: database.url })).toMatchObject([{ verdict: 'warn' }])
})

it('postgres: well, then encoding, time zone, autovacuum, connections, locks', async () => {
  await using server = await startPostgres({ durable: true })
  const client = await connected(server.url)
  await client.query(`CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'`)
  await client.query(`ALTER DATABASE latin SET timezone = 'Europe/Paris'`)
  const env = { DATABASE_URL: server.url }
  expect(await findingsOf(postgresServer, env)).toMatchObject([{ verdict: 'ok' }])
  expect(await findingsOf(acknowledgement, env)).toMatchObject([{ verdict: 'ok' }])
  const latin = { DATABASE_URL: server.url.replace(/postgres$/, 'latin') }
  expect(shortened(await findingsOf(postgresServer, latin)).slice(1)).toEqual([
    expect.stringMatching(/^fail: the database is encoded as LATIN1/),
    expect.stringMatching(/^warn: sessions begin in the time zone Europe\/Paris/),
  ])

  const large = { ...env, KAFKA_BROKERS: '127.0.0.1:1', BRIDGE_DATABASE_POOL_SIZE: '100' }
  expect(shortened(await findingsOf(postgresServer, large)).slice(1)).toEqual([
    expect.stringMatching(/^warn: 4 process\(es\) of ours want up to 108 connections .*max_connections = \d+/),
  ])
  await client.query('ALTER SYSTEM SET autovacuum = off')
  await client.query("ALTER SYSTEM SET synchronous_commit = 'off'")
  await client.query('SELECT pg_reload_conf()')
  await vi.waitFor(async () =>
    expect(shortened(await findingsOf(postgresServer, env)).slice(1)).toEqual([
      expect.stringMatching(/^ok: synchronous_commit is off; the sessions that write readings set it to on/),
      expect.stringMatching(/^fail: autovacuum is off/),
    ]),
  )
  await client.end()
  await server.kill()
  const gone = await findingsOf(postgresServer, env)
  expect(shortened(gone)).toEqual([expect.stringMatching(/^fail: .* does not answer: connect ECONNREFUSED/)])
  expect(shortened(gone).join(), 'no password').not.toContain('postgres:postgres@')
})

it('tables: not made, as they should be, made by a newer version', async () => {
  await using database = await freshDatabase()
  const env = { DATABASE_URL: database.url }
  expect(await findingsOf(migrations, env)).toMatchObject([{ verdict: 'fail', line: 'npx fleetbridge init' }])
  expect(await findingsOf(partitions, env)).toMatchObject([{ verdict: 'warn', line: 'npx fleetbridge init' }])
  await migrate(database.url, silentLog)
  expect(await findingsOf(migrations, env)).toMatchObject([{ verdict: 'ok' }])
  const client = await connected(database.url)
  await client.query("INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES ('x', 99999999999999)")
  expect(shortened(await findingsOf(migrations, env))).toEqual([expect.stringMatching(/^fail: .*does not know/)])
})

it('rollups: no table, none yet, up to date, late', async () => {
  await using database = await freshDatabase()
  const seen = async () => shortened(await findingsOf(rollups, { DATABASE_URL: database.url }))
  expect(await seen()).toEqual([expect.stringMatching(/^warn: not checked/)])
  await migrate(database.url, silentLog)
  expect(await seen()).toEqual([expect.stringMatching(/^ok: none yet/)])
  const client = await connected(database.url)
  await client.query('insert into rollup_state (tenant_id, processed_until) select id, now() from tenant')
  expect(await seen()).toEqual([expect.stringMatching(/^ok: \d+ s behind/)])
  await client.query("update rollup_state set processed_until = now() - interval '3 hours'")
  await client.query('insert into rollup_dirty (epoch, device_id, metric_id, bucket) values (1, 1, 1, now())')
  expect(await seen()).toEqual([expect.stringMatching(/^warn: 180 min behind what is stored, 1 marks wait/)])
})

it('partitions: none yet, not ahead, a default, overdue ones', async () => {
  await using database = await freshDatabase()
  await migrate(database.url, silentLog)
  const env = { DATABASE_URL: database.url, BRIDGE_RETENTION_READING: '7d' }
  const seen = async () => shortened(await findingsOf(partitions, env))
  expect(await seen()).toEqual([expect.stringMatching(/^ok: none yet/)])
  const client = await connected(database.url)
  const range = (name: string, fromDays: number, toDays: number) =>
    client.query(
      `CREATE TABLE ${name} PARTITION OF reading FOR VALUES FROM ('${dayAt(fromDays)}') TO ('${dayAt(toDays)}')`,
    )
  await range('reading_old', -20, -19)
  expect(await seen()).toEqual([
    expect.stringMatching(/^fail: none of the 1 range\(s\) holds today/),
    expect.stringMatching(
      /^warn: 1 range\(s\) are past the retention .*reading_old \| npx fleetbridge retention run --dry-run$/,
    ),
  ])
  await client.query('DROP TABLE reading_old')
  await range('reading_today', 0, 1)
  expect(await seen()).toEqual(['warn: there is no range after the current one'])
  await range('reading_next', 1, 2)
  expect(await seen()).toEqual([expect.stringMatching(/^ok: 2 range\(s\), made ahead until/)])
  await client.query('CREATE TABLE reading_rest PARTITION OF reading DEFAULT')
  expect((await seen())[1]).toMatch(/^warn: reading_rest is a default partition/)
})

it('disk and clocks are measured', async () => {
  await using database = await freshDatabase()
  await migrate(database.url, silentLog)
  const env = { DATABASE_URL: database.url }
  expect(shortened(await findingsOf(databaseSize, env))).toEqual([
    expect.stringMatching(/^ok: [\d.]+ MB in the database, .* free; too little history/),
  ])
  const client = await connected(database.url)
  await client.query(
    `CREATE TABLE reading_now PARTITION OF reading FOR VALUES FROM ('${dayAt(-1)}') TO ('${dayAt(0)}')`,
  )
  await client.query(
    `INSERT INTO reading (device_id, metric_id, event_time, ingest_time, value)
      SELECT 1, 1, timestamptz '${dayAt(-1)}' + n * interval '1 second', now(), n FROM generate_series(1, 20000) n`,
  )
  expect(shortened(await findingsOf(databaseSize, env))).toEqual([
    expect.stringMatching(/^ok: .* [\d.]+ MB of readings a day, \d+ MB when the retention is reached: that fits/),
  ])
  expect(await findingsOf(clocks, env)).toMatchObject([{ verdict: 'ok' }])
  expect(await findingsOf(clocks, env, 5000)).toMatchObject([
    { verdict: 'warn', seen: expect.stringContaining('behind') },
  ])
})

it('vacuum: a transaction that stays open, and rows that nobody clears away', async () => {
  await using database = await freshDatabase()
  const env = { DATABASE_URL: database.url }
  const strict = activityCheck({ longSeconds: 0.2, manyDeadRows: 100 })
  const client = await connected(database.url)
  await client.query('CREATE TABLE heap (id int) WITH (autovacuum_enabled = off)')
  await client.query('INSERT INTO heap SELECT generate_series(1, 1000)')
  expect(await findingsOf(databaseActivity, env)).toMatchObject([{ verdict: 'ok' }])
  await client.query('UPDATE heap SET id = id + 1')
  await client.query('SELECT pg_stat_force_next_flush()')
  await client.query('BEGIN')
  await client.query('SELECT pg_sleep(0.3)')
  await vi.waitFor(async () =>
    expect(shortened(await findingsOf(strict, env))).toEqual([
      expect.stringMatching(/^warn: a transaction of "forgetful" .* idle in transaction.*pg_terminate_backend\(\d+\)/),
      expect.stringMatching(/^warn: heap holds 1000 dead rows beside 1000/),
    ]),
  )
  await client.query('COMMIT')
})

async function connected(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: 'forgetful' })
  client.on('error', () => undefined)
  await client.connect()
  onTestFinished(() => client.end().catch(() => undefined))
  return client
}

function dayAt(days: number): string {
  return new Date(Math.floor(Date.now() / 86_400_000 + days) * 86_400_000).toISOString()
}
