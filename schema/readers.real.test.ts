import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Log } from '#platform/log.ts'
import { silentLog } from '#platform/log.ts'
import { migrate } from '#platform/migrate.ts'
import { type PostgresServer, startPostgres } from '#test/servers/postgres.ts'

const opened = new AsyncDisposableStack()
let server: PostgresServer
let owner: pg.Client
let reader: pg.Client
let acme: pg.Client

beforeAll(async () => {
  server = opened.use(await startPostgres()) // of its own: roles are those of the whole server
  await migrate(server.url, silentLog)
  owner = await connected(server.url)
  await owner.query(fill)
  for (const tenant of ['acme', 'default']) await owner.query(`SELECT fleetbridge_create_tenant_reader($1)`, [tenant])
  for (const role of ['fleetbridge_reader', 'fleetbridge_tenant_acme'])
    await owner.query(`ALTER ROLE ${role} LOGIN PASSWORD 'look'`)
  reader = await connected(urlOf('fleetbridge_reader'))
  acme = await connected(urlOf('fleetbridge_tenant_acme'))
}, 120_000)
afterAll(() => opened.disposeAsync())

/** Two tenants with the same names of devices and metrics, and everything twice as large for `default`. */
const fill = `
  INSERT INTO tenant (name) VALUES ('acme');
  INSERT INTO device (tenant_id, external_id, type, attributes)
    SELECT t.id, 'pump-' || n, 'pump', '{"firmware": "1.2"}' FROM tenant t, generate_series(1, 40) n;
  INSERT INTO metric (tenant_id, name, unit)
    SELECT t.id, m.name, m.unit FROM tenant t, (VALUES ('temperature', 'Cel'), ('battery', '%EL'), ('battery', 'V')) m (name, unit);
  CREATE TABLE reading_old PARTITION OF reading FOR VALUES FROM (MINVALUE) TO ('2026-06-01Z');
  CREATE TABLE reading_1 PARTITION OF reading FOR VALUES FROM ('2026-06-01Z') TO ('2026-06-02Z') PARTITION BY HASH (device_id);
  CREATE TABLE reading_2 PARTITION OF reading FOR VALUES FROM ('2026-06-02Z') TO (MAXVALUE) PARTITION BY HASH (device_id);
  DO $$ BEGIN
    FOR part IN 0..3 LOOP
      EXECUTE format('CREATE TABLE reading_1_h%s PARTITION OF reading_1 FOR VALUES WITH (MODULUS 4, REMAINDER %s)', part, part);
      EXECUTE format('CREATE TABLE reading_2_h%s PARTITION OF reading_2 FOR VALUES WITH (MODULUS 4, REMAINDER %s)', part, part);
    END LOOP;
  END $$;
  CREATE TABLE rollup_10m_all PARTITION OF rollup_10m FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
  CREATE TABLE rollup_1h_all PARTITION OF rollup_1h FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
  INSERT INTO reading (device_id, metric_id, event_time, ingest_time, value)
    SELECT d.id, m.id, t, t, 10 * d.tenant_id FROM device d JOIN metric m ON m.tenant_id = d.tenant_id,
      generate_series('2026-06-01Z'::timestamptz, '2026-06-02 23:00Z', interval '20 minutes') t;
  INSERT INTO rollup_10m SELECT device_id, metric_id, date_bin('10 minutes', event_time, '2001-01-01Z'), count(*), min(value), max(value), sum(value),
    max(event_time), max(value) FROM reading GROUP BY 1, 2, 3;
  INSERT INTO rollup_1h SELECT device_id, metric_id, date_bin('1 hour', event_time, '2001-01-01Z'), count(*), min(value), max(value), sum(value),
    max(event_time), max(value) FROM reading GROUP BY 1, 2, 3;
  SELECT fleetbridge_fleet_rollup();
  INSERT INTO rollup_state (tenant_id, processed_until) SELECT id, '2026-06-02 23:00Z' FROM tenant;
  INSERT INTO latest (device_id, metric_id, event_time, ingest_time, value)
    SELECT DISTINCT ON (device_id, metric_id) device_id, metric_id, event_time, ingest_time, value FROM reading ORDER BY 1, 2, 3 DESC;
  INSERT INTO dead_letter (id, tenant, device, source, stage, code, message, acknowledged, ingest_time, payload)
    SELECT gen_random_uuid(), t.name, 'pump-1', 'mqtt', 'decode', 'malformed', t.name, true, now(), '{' FROM tenant t;
  INSERT INTO device_event (device_id, time, id, kind) SELECT id, now(), gen_random_uuid(), 'silent' FROM device;
  INSERT INTO ingest_offset (stream, partition, next_offset) VALUES ('direct', 0, 1);
  ANALYZE;`

const viewsOfTenants = `SELECT name FROM fleetbridge_reader_views() WHERE of_tenant`

describe('fleetbridge_reader', () => {
  it('reads every view and the series, and writes nothing', async () => {
    const { rows: views } = await owner.query(`SELECT name FROM fleetbridge_reader_views()`)
    const { rows: existing } = await owner.query(`SELECT viewname AS name FROM pg_views WHERE schemaname = 'public'`)
    expect(views.map(({ name }) => name).sort()).toEqual(existing.map(({ name }) => name).sort())
    for (const { name } of views)
      expect((await reader.query(`SELECT * FROM ${name} LIMIT 5`)).rowCount).toBeGreaterThan(0)
    expect((await series(reader, "'acme'")).length).toBe(24)
    await expect(reader.query(`CREATE TEMP TABLE x (i integer)`)).rejects.toThrow(/read-only/)
    await reader.query('SET default_transaction_read_only = off')
    for (const statement of ["UPDATE device SET site = 'x'", 'DELETE FROM reading', 'TRUNCATE latest'])
      await expect(reader.query(statement), statement).rejects.toThrow(/permission denied/)
    for (const hidden of ['credential', 'admin_token', 'audit', 'recent_message'])
      await expect(reader.query(`SELECT * FROM ${hidden}`), hidden).rejects.toThrow(/permission denied/)
    await expect(reader.query('SELECT payload FROM dead_letter')).rejects.toThrow(/permission denied/)
    await expect(reader.query(`SELECT fleetbridge_create_tenant_reader('acme')`)).rejects.toThrow(/permission denied/)
    await reader.query('RESET default_transaction_read_only')
  })

  it('has a limit of time, in UTC', async () => {
    for (const client of [reader, acme]) {
      const { rows } = await client.query(
        `SELECT current_setting('statement_timeout') AS limit, current_setting('timezone') AS zone`,
      )
      expect(rows).toEqual([{ limit: '30s', zone: 'UTC' }])
    }
  })
})

describe("a tenant's role", () => {
  it('sees its own rows in every view, under the same names, and all of them', async () => {
    for (const { name } of (await owner.query(viewsOfTenants)).rows) {
      const { rows } = await acme.query(`SELECT tenant, count(*)::int FROM ${name} GROUP BY 1`)
      const { rows: all } = await owner.query(
        `SELECT tenant, count(*)::int FROM ${name} WHERE tenant = 'acme' GROUP BY 1`,
      )
      expect(rows, name).toEqual(all)
      expect(rows[0]?.count, name).toBeGreaterThan(0)
    }
  })

  it('cannot make the series tell of another tenant', async () => {
    expect(new Set((await series(acme)).map(({ avg }) => avg))).toEqual(new Set([20]))
    expect(await series(acme, "'default'")).toEqual([])
    await expect(acme.query(`SELECT * FROM public.telemetry_series(${argumentsOfSeries})`)).rejects.toThrow(
      /permission denied/,
    )
  })

  it('may use no table and no view but its own, and none of our other functions', async () => {
    const { rows: relations } = await owner.query(
      `SELECT n.nspname || '.' || quote_ident(c.relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('public', 'drizzle', 'fleetbridge_tenant_default') AND c.relkind IN ('r', 'p', 'v', 'S')`,
    )
    expect(relations.length).toBeGreaterThan(30)
    for (const { name } of relations)
      await expect(acme.query(`SELECT * FROM ${name}`), name).rejects.toThrow(/permission denied/)
    const { rows: functions } = await owner.query(
      `SELECT p.oid::regprocedure::text AS name FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace
        AND has_function_privilege('fleetbridge_tenant_acme', p.oid, 'EXECUTE') AND p.prorettype <> 'trigger'::regtype`,
    )
    // These read as their caller, or nothing.
    expect(functions.map(({ name }) => name.split('(')[0]).sort()).toEqual([
      'fleetbridge_reader_views',
      'telemetry_series',
    ])
  })

  it('learns nothing by functions of its own: they meet no row of another tenant', async () => {
    const told: string[] = []
    acme.on('notice', ({ message }) => told.push(message ?? ''))
    await acme.query('SET default_transaction_read_only = off')
    await acme.query(`CREATE FUNCTION pg_temp.peek(text, text) RETURNS boolean COST 0.0000001 LANGUAGE plpgsql AS
      $$ BEGIN RAISE NOTICE '% %', $1, $2; RETURN true; END $$`)
    for (const { name } of (await owner.query(viewsOfTenants)).rows)
      await acme.query(`SELECT count(*) FROM ${name} v WHERE pg_temp.peek(tenant, v::text)`)
    expect(told.length).toBeGreaterThan(1000)
    expect(told.filter((line) => !line.startsWith('acme ')).slice(0, 3)).toEqual([])
    // An error is a leak too: 10 is the value of the other tenant's readings.
    await acme.query(`SELECT count(*) FROM telemetry WHERE 1 / (value - 10) > 0`)
    await acme.query('RESET default_transaction_read_only')
  })

  it.each([
    [
      'one metric of a device',
      `SELECT * FROM telemetry WHERE device = 'pump-7' AND metric = 'temperature' AND time >= '2026-06-01Z' AND time < '2026-06-02Z'`,
    ],
    [
      'a day of all',
      `SELECT avg(value) FROM telemetry WHERE metric IN ('temperature', 'battery') AND time >= '2026-06-01Z' AND time < '2026-06-02Z' AND value > 5`,
    ],
    ['latest of a device', `SELECT * FROM telemetry_latest WHERE device = 'pump-7'`],
    ['state of a device', `SELECT * FROM device_status WHERE device = 'pump-7'`],
  ])('opens what the reader would open: %s', async (_, query) => {
    const ofTenant = await scansOf(acme, query)
    const { rows } = await acme.query(query)
    expect(rows.length).toBeGreaterThan(0)
    expect(ofTenant).toEqual(await scansOf(reader, query.replace('WHERE', `WHERE tenant = 'acme' AND`)))
    expect(ofTenant.filter((scan) => /reading_(old|2)/.test(scan))).toEqual([])
  })

  it('passes what it sees to who is a member of it', async () => {
    await owner.query(`CREATE ROLE ann LOGIN PASSWORD 'look'; GRANT fleetbridge_tenant_acme TO ann`)
    const ann = await connected(urlOf('ann'))
    const { rows } = await ann.query(`SELECT DISTINCT tenant FROM fleetbridge_tenant_acme.device_status`)
    expect(rows).toEqual([{ tenant: 'acme' }])
    await expect(ann.query(`SELECT * FROM device_status`)).rejects.toThrow(/permission denied/)
  })

  it('has comments, gets columns that come later, and goes again', async () => {
    await owner.query('BEGIN')
    const { rows: silent } = await owner.query(
      `SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        WHERE c.relkind = 'v' AND c.relnamespace IN ('public'::regnamespace, 'fleetbridge_tenant_acme'::regnamespace) AND col_description(c.oid, a.attnum) IS NULL`,
    )
    expect(silent).toEqual([])
    const { rows } = await owner.query(`SELECT pg_get_viewdef('ingest_health'::regclass) AS text`)
    expect(rows[0].text).toContain('idle_seconds')
    await owner.query(
      `CREATE OR REPLACE VIEW device_status AS SELECT s.*, 7 AS later FROM (${(await viewText('device_status')).replace(/;$/, '')}) s`,
    )
    await owner.query('SELECT fleetbridge_refresh_readers()')
    expect((await owner.query('SELECT later FROM fleetbridge_tenant_acme.device_status LIMIT 1')).rows).toEqual([
      { later: 7 },
    ])
    await owner.query('ROLLBACK')
    const { rows: longName } = await owner.query(`INSERT INTO tenant (name) VALUES (repeat('x', 63)) RETURNING name`)
    const { rows: made } = await owner.query(`SELECT fleetbridge_create_tenant_reader($1) AS role`, [longName[0].name])
    expect(made[0].role).toHaveLength(63)
    await owner.query(`SELECT fleetbridge_drop_tenant_reader($1)`, [longName[0].name])
    expect((await owner.query(`SELECT FROM pg_roles WHERE rolname = $1`, [made[0].role])).rowCount).toBe(0)
    await expect(owner.query(`SELECT fleetbridge_create_tenant_reader('nobody')`)).rejects.toThrow(/no tenant "nobody"/)
  })
})

it('databases of one server that migrate at once make the role once', async () => {
  await using other = await startPostgres()
  const administrator = new pg.Client(other.url)
  await administrator.connect()
  const names = ['one', 'two', 'three', 'four']
  for (const name of names) await administrator.query(`CREATE DATABASE ${name}`)
  const urls = names.map((name) => Object.assign(new URL(other.url), { pathname: `/${name}` }).href)
  await Promise.all(urls.map((url) => migrate(url, silentLog)))
  for (const url of urls) {
    const client = new pg.Client(url)
    await client.connect()
    await client.query('SET ROLE fleetbridge_reader')
    expect((await client.query('SELECT FROM telemetry_1h')).rowCount).toBe(0)
    await client.end()
  }
  await administrator.end()
}, 120_000)

describe('an owner who may not create roles', () => {
  it('migrates with a warning, and finishes once an administrator made the role', async () => {
    await using other = await startPostgres()
    const administrator = new pg.Client(other.url)
    await administrator.connect()
    await administrator.query(`CREATE ROLE modest LOGIN PASSWORD 'look'`)
    await administrator.query('CREATE DATABASE theirs OWNER modest')
    const url = new URL(other.url)
    Object.assign(url, { username: 'modest', password: 'look', pathname: '/theirs' })
    const warnings: string[] = []
    const log: Log = { ...silentLog, warn: (_: object, message: string) => warnings.push(message) } as never
    await migrate(url.href, log)
    expect(warnings).toEqual(['there is no role fleetbridge_reader: this user may not create it'])
    const modest = new pg.Client(url.href)
    await modest.connect()
    await modest.query(`INSERT INTO tenant (name) VALUES ('acme')`)
    await expect(modest.query(`SELECT fleetbridge_create_tenant_reader('acme')`)).rejects.toMatchObject({
      code: '42501',
      hint: expect.stringContaining('CREATE ROLE fleetbridge_tenant_acme NOLOGIN'),
    })
    await administrator.query('CREATE ROLE fleetbridge_reader NOLOGIN; CREATE ROLE fleetbridge_tenant_acme NOLOGIN')
    await modest.query('SELECT fleetbridge_create_reader()')
    await modest.query(`SELECT fleetbridge_create_tenant_reader('acme')`)
    await administrator.query('ALTER ROLE fleetbridge_reader LOGIN')
    const { rows } = await modest.query(`SELECT has_table_privilege('fleetbridge_reader', 'telemetry', 'SELECT') AS a,
      has_table_privilege('fleetbridge_tenant_acme', 'fleetbridge_tenant_acme.telemetry', 'SELECT') AS b, has_table_privilege('fleetbridge_tenant_acme', 'telemetry', 'SELECT') AS c`)
    expect(rows).toEqual([{ a: true, b: true, c: false }])
    await modest.end()
    await administrator.end()
  }, 120_000)
})

const argumentsOfSeries = `'pump-7', 'temperature', '2026-06-01Z', '2026-06-02Z', '1 hour'`

async function series(client: pg.Client, tenant?: string): Promise<{ avg: number }[]> {
  const { rows } = await client.query(
    `SELECT * FROM telemetry_series(${argumentsOfSeries}${tenant === undefined ? '' : `, ${tenant}`})`,
  )
  return rows
}

async function viewText(name: string): Promise<string> {
  const { rows } = await owner.query('SELECT pg_get_viewdef($1::regclass) AS text', [name])
  return rows[0].text
}

/** Relations that a plan really opened, with the index. */
async function scansOf(client: pg.Client, query: string): Promise<string[]> {
  const { rows } = await client.query(`EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, BUFFERS OFF, SUMMARY OFF) ${query}`)
  return rows
    .map((row) => Object.values(row)[0] as string)
    .filter((line) => / on \w/.test(line) && !line.includes('never executed'))
    .map((line) => / on (?:\w+\.)?(\w+)/.exec(line)?.[1] as string)
    .sort()
}

function urlOf(role: string): string {
  const url = new URL(server.url)
  url.username = role
  url.password = 'look'
  return url.href
}

async function connected(url: string): Promise<pg.Client> {
  const client = new pg.Client(url)
  await client.connect()
  opened.defer(() => client.end())
  return client
}
