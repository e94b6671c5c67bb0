import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { silentLog } from '#platform/log.ts'
import { migratedDatabase } from '#test/servers/fresh.ts'
import { startAdminListener } from './admin-listener.ts'
import { Exports } from './exports.ts'
import { addAdminToken } from './registry/admin-tokens.ts'
import { readingsExport } from './registry/read-telemetry.ts'
import { newAdminToken } from './registry/tokens.ts'

const ownToken = newAdminToken()
const opened = new AsyncDisposableStack()
const by = { actor: 'cli:test', makesTenants: true }
/** A whole hour, some days ago. */
const startMs = Math.floor(Date.now() / 3_600_000 - 72) * 3_600_000
const bulkRows = 100_000
let client: pg.Client
let databaseUrl: string
let base: string
let viewer: string
let acme: string

beforeAll(async () => {
  const { url } = opened.use(await migratedDatabase())
  databaseUrl = url
  client = new pg.Client(url)
  await client.connect()
  opened.defer(() => client.end())
  for (const table of ['reading', 'rollup_10m', 'rollup_1h'])
    await client.query(`CREATE TABLE ${table}_all PARTITION OF ${table} DEFAULT`)
  await client.query(`INSERT INTO tenant (name) VALUES ('acme')`)
  await client.query(
    `INSERT INTO device (tenant_id, external_id) SELECT t.id, d FROM tenant t, unnest(ARRAY['pump-1', 'pump-2', 'bulk']) d WHERE t.name = 'default' OR d = 'pump-1'`,
  )
  await client.query(
    `INSERT INTO metric (tenant_id, name, unit) SELECT t.id, m.name, m.unit FROM tenant t,
       (VALUES ('temp', 'Cel'), ('temp', 'K'), ('state', NULL), ('n', NULL)) m (name, unit)`,
  )
  // A reading a minute for five hours, with a number that is its minute; a state beside each tenth.
  await insert('pump-1', 'temp', 'Cel', `SELECT n, n::float8, NULL::text FROM generate_series(0, 299) n`)
  await insert('pump-1', 'temp', 'K', `SELECT n * 60, 273, NULL FROM generate_series(0, 1) n`)
  await insert('pump-1', 'state', undefined, `SELECT n * 10, NULL, 'on ' || n FROM generate_series(0, 29) n`)
  await insert('pump-2', 'temp', 'Cel', `SELECT 0, 1, NULL`)
  await insert('pump-1', 'temp', 'Cel', `SELECT 0, 77, NULL`, 'acme')
  await insert('bulk', 'n', undefined, `SELECT n / 60.0, n, NULL FROM generate_series(1, ${bulkRows}) n`)
  await client.query(
    `INSERT INTO latest (device_id, metric_id, event_time, ingest_time, value, text)
     SELECT DISTINCT ON (device_id, metric_id) device_id, metric_id, event_time, ingest_time, value, text FROM reading ORDER BY device_id, metric_id, event_time DESC`,
  )
  const add = async (name: string, tenant?: string) =>
    (await addAdminToken(client, by, { name, role: 'viewer', tenant })).token
  viewer = await add('viewer')
  acme = await add('of-acme', 'acme')
  const { port } = opened.use(
    await startAdminListener(
      { host: '127.0.0.1', port: 0 },
      { databaseUrl: url, ownToken: { name: 'config', token: ownToken }, log: silentLog },
    ),
  )
  base = `http://127.0.0.1:${port}/admin/v1`
})
afterAll(() => opened.disposeAsync())

/** @param rows minute, value and text of each */
async function insert(device: string, metric: string, unit: string | undefined, rows: string, tenant = 'default') {
  await client.query(
    `INSERT INTO reading (device_id, metric_id, event_time, ingest_time, value, text)
     SELECT d.id, m.id, $4::timestamptz + r.minute * interval '1 minute', now(), r.value::float8, r.text::text
     FROM (${rows}) r (minute, value, text), tenant t JOIN device d ON d.tenant_id = t.id JOIN metric m ON m.tenant_id = t.id
     WHERE t.name = $5 AND d.external_id = $1 AND m.name = $2 AND m.unit IS NOT DISTINCT FROM $3`,
    [device, metric, unit ?? null, new Date(startMs), tenant],
  )
}

// biome-ignore lint/suspicious/noExplicitAny: what a test reads it also checks
async function get(path: string, token = viewer): Promise<any> {
  const answer = await fetch(`${base}${path}`, { headers: { authorization: `Bearer ${token}` } })
  return { status: answer.status, ...((await answer.json()) as object) }
}

const iso = (minute: number) => new Date(startMs + minute * 60_000).toISOString()
const range = (from: number, to: number) => `from=${iso(from)}&to=${iso(to)}`

it('pages through readings in the order of their times, each once, over units', async () => {
  const seen: { time: string; unit: string; value: number }[] = []
  let after = ''
  let pages = 0
  do {
    const page = await get(`/devices/pump-1/readings?metric=temp&${range(0, 300)}&limit=100${after}`)
    expect(page.status).toBe(200)
    seen.push(...page.readings)
    after = page.next === null ? '' : `&after=${page.next}`
    pages++
  } while (after !== '')
  expect(pages).toBe(4)
  expect(seen).toHaveLength(302)
  expect(seen.map(({ time }) => time)).toEqual(seen.map(({ time }) => time).toSorted())
  expect(new Set(seen.map(({ time, unit }) => `${time} ${unit}`)).size).toBe(302)
  const celsius = await get(`/devices/pump-1/readings?metric=temp&unit=Cel&${range(2, 4)}`)
  expect(celsius.readings).toMatchObject([
    { value: 2, unit: 'Cel', text: null, flag: null, clock: 0 },
    { value: 3, time: iso(3).replace('.000Z', '.000000Z') },
  ])
  expect(celsius.next).toBeNull()
})

it('series from readings: each step with its numbers, texts with their last', async () => {
  const { source, series } = await get(`/devices/pump-1/series?metric=temp&unit=Cel&step=30m&${range(0, 60)}`)
  expect(source).toBe('reading')
  expect(series).toEqual([
    { time: iso(0).replace('.000', ''), unit: 'Cel', count: 30, min: 0, max: 29, avg: 14.5, sum: 435, last: 29 },
    { time: iso(30).replace('.000', ''), unit: 'Cel', count: 30, min: 30, max: 59, avg: 44.5, sum: 1335, last: 59 },
  ])
  const texts = await get(`/devices/pump-1/series?metric=state&step=1h&${range(0, 60)}`)
  expect(texts.series).toMatchObject([{ count: 6, min: null, avg: null, sum: null, last: 'on 5' }])
})

it('series from rollups say the same, also where a bucket waits to be computed again', async () => {
  const ask = (step: string, metric = 'temp') =>
    get(`/devices/pump-1/series?metric=${metric}&step=${step}&${range(0, 300)}`)
  const steps = ['10m', '30m', '1h', '2h', '1d']
  const before = await Promise.all(steps.flatMap((step) => [ask(step), ask(step, 'state')]))
  for (const [table, width] of [
    ['rollup_10m', '10 minutes'],
    ['rollup_1h', '1 hour'],
  ])
    await client.query(
      `INSERT INTO ${table} SELECT device_id, metric_id, date_bin($1::interval, event_time, timestamptz 'epoch') b, count(*), min(value), max(value), sum(value),
         max(event_time), (array_agg(value ORDER BY event_time DESC))[1], (array_agg(text ORDER BY event_time DESC))[1], NULL
       FROM reading GROUP BY device_id, metric_id, b`,
      [width],
    )
  await client.query(`INSERT INTO rollup_state (tenant_id, processed_until) SELECT id, now() FROM tenant`)
  const after = await Promise.all(steps.flatMap((step) => [ask(step), ask(step, 'state')]))
  expect(after.map(({ source }) => source)).toEqual(
    ['rollup_10m', 'rollup_10m', 'rollup_1h', 'rollup_1h', 'rollup_1h'].flatMap((table) => [table, table]),
  )
  expect(after.map(({ series }) => series)).toEqual(before.map(({ series }) => series))
  expect((await ask('1m')).source).toBe('reading')
  // What a late reading does: its row and the mark of its bucket, in one transaction.
  const { rows } = await client.query<{ id: number; metric: number }>(
    `SELECT d.id, m.id AS metric FROM device d JOIN metric m USING (tenant_id) WHERE external_id = 'pump-1' AND m.name = 'temp' AND m.unit = 'Cel' ORDER BY d.id LIMIT 1`,
  )
  await insert('pump-1', 'temp', 'Cel', 'SELECT 65.5, 1000, NULL')
  await client.query('INSERT INTO rollup_dirty (epoch, device_id, metric_id, bucket) VALUES (1, $1, $2, $3)', [
    rows[0]?.id,
    rows[0]?.metric,
    new Date(startMs + 3_600_000),
  ])
  for (const step of ['10m', '1h']) {
    const { series } = await get(`/devices/pump-1/series?metric=temp&unit=Cel&step=${step}&${range(60, 70)}`)
    expect(series[0], step).toMatchObject({ max: 1000 })
    expect(series[0].count, step).toBe(step === '10m' ? 11 : 61)
  }
})

it('refuses what cannot be meant', async () => {
  const status = async (path: string) => (await get(path)).status
  expect(await status(`/devices/pump-1/series?metric=temp&step=1s&${range(0, 300)}`)).toBe(400)
  expect(await status(`/devices/pump-1/series?metric=temp&step=0s`)).toBe(400)
  expect(await status(`/devices/pump-1/readings?metric=temp&from=1h&to=2h`)).toBe(400)
  expect(await status(`/devices/pump-1/readings?metric=temp&after=abc`)).toBe(400)
  expect(
    await status(`/devices/pump-1/readings?metric=temp&after=${Buffer.from('["x",1,2]').toString('base64url')}`),
  ).toBe(400)
  expect(await status(`/devices/pump-1/readings?metric=temp%00`)).toBe(400)
  expect(await status(`/devices/pump-1/readings?metric=nothing`)).toBe(404)
  expect(await status(`/devices/nobody/readings?metric=temp`)).toBe(404)
  expect(await status(`/export?from=1h&to=2h`)).toBe(400)
})

it('the newest readings and the status of devices, by pages', async () => {
  const first = await get('/latest?prefix=pump-&limit=2')
  const second = await get(`/latest?prefix=pump-&limit=2&after=${first.next}`)
  const rows = [...first.latest, ...second.latest].map(({ device, metric, unit, value, text }) => [
    device,
    metric,
    unit,
    value ?? text,
  ])
  expect(rows).toEqual([
    ['pump-1', 'temp', 'Cel', 299],
    ['pump-1', 'temp', 'K', 273],
    ['pump-1', 'state', null, 'on 29'],
    ['pump-2', 'temp', 'Cel', 1],
  ])
  expect(second.next).toBeNull()
  expect((await get('/latest?device=pump-1&metric=state')).latest).toHaveLength(1)
  const { devices, next } = await get('/device-status?limit=2')
  expect(devices).toMatchObject([
    { device: 'bulk', metrics: 1 },
    { device: 'pump-1', metrics: 3, lastTime: iso(299) },
  ])
  expect((await get(`/device-status?after=${next}`)).devices).toMatchObject([{ device: 'pump-2' }])
  expect((await get('/device-status?silent=1h')).devices).toEqual([])
  expect((await get('/device-status?silent=0s')).devices).toHaveLength(3)
})

it('a token of one tenant reads that one alone', async () => {
  expect(await get('/whoami', acme)).toEqual({ status: 200, name: 'of-acme', role: 'viewer', tenant: 'acme' })
  const { readings } = await get(`/devices/pump-1/readings?metric=temp&${range(0, 300)}`, acme)
  expect(readings.map(({ value }: { value: number }) => value)).toEqual([77])
  expect((await get('/devices', acme)).devices.map(({ device }: { device: string }) => device)).toEqual(['pump-1'])
  for (const path of [
    '/devices?tenant=default',
    '/devices/pump-1/readings?metric=temp&tenant=default',
    '/export?tenant=default',
    '/tenants',
  ])
    expect(await get(path, acme), path).toMatchObject({ status: 403, code: 'not_allowed' })
  const text = await (await fetch(`${base}/export?from=30d`, { headers: { authorization: `Bearer ${acme}` } })).text()
  expect(text.trimEnd().split('\n')).toHaveLength(2)
  await expect(addAdminToken(client, by, { name: 'more', role: 'operator', tenant: 'acme' })).rejects.toThrow(/viewer/)
})

it('exports CSV and NDJSON, whole or so many rows', async () => {
  const fetched = async (query: string) => {
    const answer = await fetch(`${base}/export?from=30d&${query}`, { headers: { authorization: `Bearer ${viewer}` } })
    return { type: answer.headers.get('content-type'), lines: (await answer.text()).trimEnd().split('\n') }
  }
  const all = await fetched('device=bulk')
  expect(all.type).toContain('text/csv')
  expect(all.lines).toHaveLength(bulkRows + 1)
  expect(all.lines[0]).toBe('time,device,metric,unit,value,text,flag,clock,ingest_time')
  const sum = all.lines.slice(1).reduce((total, line) => total + Number(line.split(',')[4]), 0)
  expect(sum).toBe((bulkRows * (bulkRows + 1)) / 2)
  const some = await fetched('device=pump-2&format=ndjson')
  expect(some.lines.map((line) => JSON.parse(line))).toEqual([
    {
      time: iso(0).replace('.000Z', '.000000Z'),
      device: 'pump-2',
      metric: 'temp',
      unit: 'Cel',
      value: 1,
      clock: 0,
      ingestTime: expect.any(String),
    },
  ])
  expect((await fetched('limit=2500')).lines).toHaveLength(2501)
})

async function exportConnections(): Promise<number> {
  const { rows } = await client.query(
    `SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name = 'fleetbridge export' AND datname = current_database()`,
  )
  return rows[0].n
}

it('fetches no more than is taken, and ends its query when the client goes away', async () => {
  const stop = new AbortController()
  const headers = { authorization: `Bearer ${viewer}` }
  const answer = await fetch(`${base}/export?from=30d`, { headers, signal: stop.signal })
  const reader = answer.body?.getReader()
  await reader?.read()
  expect(await exportConnections()).toBe(1)
  stop.abort()
  await expect.poll(exportConnections, { timeout: 5000 }).toBe(0)

  const exports = new Exports(databaseUrl, silentLog)
  const filter = readingsExport({ tenant: 'default', from: new Date(startMs - 1), to: new Date() })
  const stream = await exports.open(filter, 'csv')
  stream.read(0)
  await new Promise((resolve) => setTimeout(resolve, 500))
  expect(stream.readableLength).toBeGreaterThan(0)
  expect(stream.readableLength, 'of some 7 MB').toBeLessThan(1_000_000)
  const second = await exports.open(filter, 'csv')
  await expect(exports.open(filter, 'csv')).rejects.toThrow(/under way/)
  second.destroy()
  const third = await exports.open(filter, 'csv')
  third.destroy()
  exports.close()
  await expect.poll(exportConnections, { timeout: 5000 }).toBe(0)
})

it('a query under way is ended when the client goes away', async () => {
  const locker = new pg.Client(databaseUrl)
  await locker.connect()
  try {
    await locker.query('BEGIN; LOCK TABLE reading IN ACCESS EXCLUSIVE MODE')
    const stop = new AbortController()
    const asked = fetch(`${base}/export?from=30d`, {
      headers: { authorization: `Bearer ${viewer}` },
      signal: stop.signal,
    })
    asked.catch(() => undefined)
    await expect.poll(exportConnections, { timeout: 5000 }).toBe(1)
    stop.abort()
    await expect.poll(exportConnections, { timeout: 5000 }).toBe(0)
  } finally {
    await locker.end()
  }
})
