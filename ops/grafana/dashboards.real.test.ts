import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import pg from 'pg'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import { migrate } from '#platform/migrate.ts'
import { startPostgres } from '#test/servers/postgres.ts'
import { startPartitions } from '#worker/store/partitions.ts'
import { startStore } from '#worker/store/store.ts'
import { repositoryFile } from '../container-files.ts'
import { type Expansion, expandSql, readDashboards } from './dashboards.ts'

vi.setConfig({ testTimeout: 60_000 })

const dayMs = 86_400_000
const days = 12
const devices = 40
const midnight = Math.floor(Date.now() / dayMs) * dayMs
/** Any day's range touches two days. */
const from = new Date(midnight - 3 * dayMs + dayMs / 2)
const opened = new AsyncDisposableStack()
let owner: pg.Client
let reader: pg.Client
let expansion: Expansion

beforeAll(async () => {
  const database = opened.use(await startPostgres()) // of its own: roles are those of the whole server
  await migrate(database.url, silentLog)
  owner = await connected(database.url)
  await fill(database.url)
  // As docs/monitoring.md and compose do it.
  const file = repositoryFile('ops/grafana/reader.sql').pathname
  for (let time = 0; time < 2; time++)
    await promisify(execFile)('psql', [
      '-X',
      '-q',
      '-v',
      'ON_ERROR_STOP=1',
      '-v',
      'password=look',
      '-f',
      file,
      database.url,
    ])
  reader = await connected(database.url)
  await reader.query('SET ROLE fleetbridge_reader')
  const { rows } = await owner.query("SELECT id FROM device WHERE external_id = 'pump-7'")
  expansion = {
    from,
    to: new Date(from.getTime() + dayMs),
    interval: '10m',
    variables: new Map<string, string | string[]>([
      ['tenant', 'default'],
      ['device', String(rows[0].id)],
      ['metric', ['temperature', 'state']],
    ]),
  }
}, 120_000)

afterAll(async () => {
  await opened.disposeAsync()
})

const queries = readDashboards().flatMap(({ title, panels, templating }) => [
  ...panels.flatMap((panel) =>
    panel.targets.flatMap(({ rawSql, format }) =>
      rawSql === undefined
        ? []
        : [
            {
              name: `${title}: ${panel.title}`,
              sql: rawSql,
              format,
              multi: templating.list.some(({ multi }) => multi),
            },
          ],
    ),
  ),
  ...templating.list.map(({ name, query }) => ({
    name: `${title}: variable ${name}`,
    sql: query,
    format: 'variable' as const,
    multi: false,
  })),
])

it.each(queries)('$name: answers, and opens two days at most for a day', async ({ sql, format, multi }) => {
  const variables = new Map(expansion.variables)
  if (!multi) variables.set('metric', 'temperature')
  const expanded = expandSql(sql, { ...expansion, variables })
  const { rows } = await reader.query<{ 'QUERY PLAN': [{ Plan: Node }] }>(`EXPLAIN (FORMAT JSON) ${expanded}`)
  const opened = [...relationsOf(rows[0]?.['QUERY PLAN'][0].Plan as Node)].filter((name) => /^reading_\d/.test(name))
  const dates = new Set(opened.map((name) => name.split('_')[1]))
  expect(dates.size, opened.join(' ')).toBeLessThanOrEqual(2)
  if (expanded.includes('r.device_id = ')) expect(opened.length, 'one part in four of each day').toBe(dates.size)
  const answer = await reader.query(expanded)
  expect(answer.rows.length, expanded).toBeGreaterThan(0)
  const names = answer.fields.map((field) => field.name)
  if (format === 'time_series') expect(names[0]).toBe('time')
  // A function's plans are not in EXPLAIN; what it opened, it has locked.
  const locked = await lockedBy(expanded)
  expect(
    new Set(locked.filter((name) => /^reading_\d/.test(name)).map((name) => name.split('_')[1])).size,
  ).toBeLessThanOrEqual(2)
})

it('charts of a month read hours, and open no day of readings but those that are not computed yet', async () => {
  const month = { ...expansion, from: new Date(midnight - 11 * dayMs), to: new Date(midnight - dayMs), interval: '1h' }
  const charts = queries.filter(({ sql }) => /telemetry_series|telemetry_fleet_1h/.test(sql))
  expect(charts).toHaveLength(2)
  for (const { sql, multi, name } of charts) {
    const variables = new Map(expansion.variables)
    if (!multi) variables.set('metric', 'temperature')
    const expanded = expandSql(sql, { ...month, variables })
    expect(
      (await lockedBy(expanded)).filter((relation) => /^reading_\d/.test(relation)),
      name,
    ).toEqual([])
    expect((await reader.query(expanded)).rows.length, name).toBeGreaterThanOrEqual(10 * 24)
  }
})

it('the fleet of the last six hours is drawn by ten minutes', async () => {
  const { sql } = queries.find(({ name }) => name.startsWith('Fleet: $metric')) as { sql: string }
  const variables = new Map(expansion.variables).set('metric', 'temperature')
  const answer = await reader.query(
    expandSql(sql, { ...expansion, from, to: new Date(from.getTime() + 6 * 3_600_000 - 1), variables }),
  )
  expect(answer.rows).toHaveLength(36)
})

it('the reader only reads, and sees no payload and no credential', async () => {
  await expect(reader.query("UPDATE device SET site = 'x'")).rejects.toThrow(/permission denied/)
  await expect(reader.query('SELECT payload FROM dead_letter')).rejects.toThrow(/permission denied/)
  await expect(reader.query('SELECT * FROM credential')).rejects.toThrow(/permission denied/)
  const { rows } = await owner.query("SELECT rolconfig FROM pg_roles WHERE rolname = 'fleetbridge_reader'")
  expect(rows[0].rolconfig).toEqual(
    expect.arrayContaining(['statement_timeout=30s', 'default_transaction_read_only=on']),
  )
})

interface Node {
  readonly 'Relation Name'?: string
  readonly Plans?: readonly Node[]
}

function relationsOf(node: Node, found = new Set<string>()): Set<string> {
  if (node['Relation Name'] !== undefined) found.add(node['Relation Name'])
  for (const inner of node.Plans ?? []) relationsOf(inner, found)
  return found
}

/** A numeric and a textual metric of each device, one reading in ten minutes, and some of what dashboards show beside. */
async function fill(databaseUrl: string): Promise<void> {
  const metrics = createMetrics('test')
  await using store = await startStore({ databaseUrl, poolSize: 1, retention: '90d', log: silentLog, metrics })
  await store.ping()
  const dates = Array.from({ length: days }, (_, back) => new Date(midnight - back * dayMs).toISOString().slice(0, 10))
  for (const [index, date] of dates.entries()) {
    if (index === 0) continue // the store has made today's
    const name = `reading_${date.replaceAll('-', '')}`
    await owner.query(
      `CREATE TABLE ${name} PARTITION OF reading FOR VALUES FROM ('${date} 00:00+00') TO ('${dates[index - 1]} 00:00+00') PARTITION BY HASH (device_id)`,
    )
    for (let part = 0; part < 4; part++)
      await owner.query(
        `CREATE TABLE ${name}_h${part} PARTITION OF ${name} FOR VALUES WITH (MODULUS 4, REMAINDER ${part})`,
      )
  }
  await owner.query(
    `INSERT INTO device (tenant_id, external_id) SELECT 1, 'pump-' || n FROM generate_series(1, ${devices}) n`,
  )
  await owner.query(
    `INSERT INTO metric (tenant_id, name, unit) VALUES (1, 'temperature', 'Cel'), (1, 'state', NULL), (1, 'battery', '%EL')`,
  )
  await owner.query(
    `INSERT INTO reading (device_id, metric_id, event_time, ingest_time, value, text)
      SELECT d.id, m.id, t, t + interval '1 second', CASE WHEN m.name <> 'state' THEN random() END, CASE m.name WHEN 'state' THEN 'on' END
      FROM device d, metric m, generate_series('${dates.at(-1)} 00:00+00'::timestamptz, '${dates[0]} 00:00+00', interval '10 minutes') t`,
  )
  await owner.query(
    `INSERT INTO latest (device_id, metric_id, event_time, ingest_time, value, text)
      SELECT DISTINCT ON (device_id, metric_id) device_id, metric_id, event_time, ingest_time - interval '2 hours', value, text
      FROM reading ORDER BY device_id, metric_id, event_time DESC`,
  )
  await using pool = Object.assign(new pg.Pool({ connectionString: databaseUrl }), {
    async [Symbol.asyncDispose]() {
      await pool.end()
    },
  })
  for (const [table, width] of [
    ['rollup_10m', '10 minutes'],
    ['rollup_1h', '1 hour'],
  ] as const) {
    await using ranges = await startPartitions({ pool, table, width: 'month', log: silentLog, onMade: () => {} })
    await ranges.make(dates.map((date) => Date.parse(date)))
    await owner.query(
      `INSERT INTO ${table} SELECT device_id, metric_id, date_bin('${width}', event_time, '2001-01-01Z'), count(*), min(value), max(value), sum(value),
        max(event_time), max(value), max(text) FROM reading GROUP BY 1, 2, 3`,
    )
  }
  await owner.query('SELECT fleetbridge_fleet_rollup(10000)')
  await owner.query(
    'INSERT INTO rollup_state (tenant_id, processed_until) VALUES (1, now()) ON CONFLICT (tenant_id) DO UPDATE SET processed_until = now()',
  )
  await owner.query(
    `INSERT INTO dead_letter (id, tenant, device, source, topic, stage, code, message, acknowledged, ingest_time)
      SELECT gen_random_uuid(), 'default', 'pump-7', 'mqtt', 't', 'decode', 'malformed', 'no JSON', true, '${from.toISOString()}'::timestamptz + n * interval '1 hour'
      FROM generate_series(0, 9) n`,
  )
  await owner.query(`INSERT INTO ingest_offset (stream, partition, next_offset) VALUES ('direct', 0, 1)`)
  await owner.query('ANALYZE')
}

async function lockedBy(sql: string): Promise<string[]> {
  await reader.query('BEGIN')
  await reader.query(sql)
  const { rows } = await reader.query(
    `SELECT c.relname AS name FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE l.pid = pg_backend_pid() AND c.relkind IN ('r', 'p')`,
  )
  await reader.query('ROLLBACK')
  return rows.map(({ name }) => name as string)
}

async function connected(url: string): Promise<pg.Client> {
  const client = new pg.Client(url)
  await client.connect()
  opened.defer(() => client.end())
  return client
}
