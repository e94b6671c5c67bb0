import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { silentLog } from '#platform/log.ts'
import { migratedDatabase } from '#test/servers/fresh.ts'
import { startAdminListener } from './admin-listener.ts'
import { addAdminToken } from './registry/admin-tokens.ts'
import { newAdminToken } from './registry/tokens.ts'

const opened = new AsyncDisposableStack()
const by = { actor: 'cli:test', makesTenants: true }
/** Of the oldest event; the n-th is n seconds later. */
const startMs = Math.floor(Date.now() / 1000) * 1000 - 3_600_000
const kinds = ['connected', 'disconnected', 'connected', 'lost', 'silent', 'back', 'limited']
const count = 70
let base: string
let viewer: string
let acme: string

beforeAll(async () => {
  const { url } = opened.use(await migratedDatabase())
  const client = new pg.Client(url)
  await client.connect()
  opened.defer(() => client.end())
  await client.query(`INSERT INTO tenant (name) VALUES ('acme')`)
  await client.query(
    `INSERT INTO device (tenant_id, external_id) SELECT t.id, d FROM tenant t, unnest(ARRAY['pump-1', 'pump-2', 'fan']) d WHERE t.name = 'default' OR d = 'fan'`,
  )
  const add = (tenant: string, device: string, n: number) =>
    client.query(
      `INSERT INTO device_event (device_id, time, id, kind, epoch, details)
       SELECT d.id, $1, $2, $3, $4, $5 FROM device d JOIN tenant t ON t.id = d.tenant_id WHERE t.name = $6 AND d.external_id = $7`,
      [
        new Date(startMs + n * 1000),
        randomUUID(),
        kinds[n % 7],
        n,
        { client: 'c,1', reason: 'said "bye"' },
        tenant,
        device,
      ],
    )
  // Two share each time, so that pages end between equal ones.
  for (let n = 0; n < count; n++) await add('default', ['pump-1', 'pump-2', 'fan'][n % 3] as string, n - (n % 2))
  await add('acme', 'fan', 3)
  const token = async (name: string, tenant?: string) =>
    (await addAdminToken(client, by, { name, role: 'viewer', tenant })).token
  viewer = await token('viewer')
  acme = await token('of-acme', 'acme')
  const ownToken = { name: 'config', token: newAdminToken() } as const
  const options = { databaseUrl: url, ownToken, log: silentLog }
  const { port } = opened.use(await startAdminListener({ host: '127.0.0.1', port: 0 }, options))
  base = `http://127.0.0.1:${port}/admin/v1`
})
afterAll(() => opened.disposeAsync())

const fetched = (path: string, token = viewer) =>
  fetch(`${base}${path}`, { headers: { authorization: `Bearer ${token}` } })

interface Page {
  readonly status: number
  readonly code?: string
  readonly events: { id: string; time: string; device: string; kind: string; reason: string; epoch: number }[]
  readonly next: string | null
}

async function get(path: string, token = viewer): Promise<Page> {
  const answer = await fetched(path, token)
  return { status: answer.status, ...((await answer.json()) as Omit<Page, 'status'>) }
}

it('pages from the newest to the oldest, each once, also where times are equal', async () => {
  const seen: Page['events'] = []
  for (let after = ''; ; ) {
    const page = await get(`/events?limit=9${after}`)
    expect(page.status).toBe(200)
    seen.push(...page.events)
    if (page.next === null) break
    after = `&after=${page.next}`
  }
  expect(seen).toHaveLength(count)
  expect(new Set(seen.map(({ id }) => id)).size).toBe(count)
  expect(seen.map(({ time }) => time)).toEqual(
    seen
      .map(({ time }) => time)
      .toSorted()
      .toReversed(),
  )
  const newest = seen.slice(0, 2).toSorted((one, other) => one.device.localeCompare(other.device))
  expect(newest.map(({ device, kind }) => [device, kind])).toEqual([
    ['fan', kinds[68 % 7]],
    ['pump-1', kinds[68 % 7]],
  ])
  expect(newest[0]).toMatchObject({
    client: 'c,1',
    gateway: null,
    reason: 'said "bye"',
    epoch: 68,
    details: { client: 'c,1', reason: 'said "bye"' },
  })
})

it('shows those of a device, of devices, of a kind, of a time', async () => {
  const devices = async (query: string) => new Set((await get(`/events?${query}`)).events.map(({ device }) => device))
  expect(await devices('device=pump-1')).toEqual(new Set(['pump-1']))
  expect(await devices('prefix=pump-')).toEqual(new Set(['pump-1', 'pump-2']))
  const lost = (await get('/events?kind=lost')).events
  expect(lost.length).toBeGreaterThan(0)
  expect(new Set(lost.map(({ kind }) => kind))).toEqual(new Set(['lost']))
  const iso = (seconds: number) => new Date(startMs + seconds * 1000).toISOString()
  const some = (await get(`/events?from=${iso(10)}&to=${iso(20)}`)).events
  expect(some.map(({ epoch }) => epoch)).toEqual([18, 18, 16, 16, 14, 14, 12, 12, 10, 10])
  expect((await get('/events?from=30m')).events).toEqual([])
})

it('refuses what cannot be meant', async () => {
  expect((await get('/events?device=nobody')).status).toBe(404)
  const cursor = (parts: unknown) => Buffer.from(JSON.stringify(parts)).toString('base64url')
  for (const query of [
    'kind=born',
    'from=1h&to=2h',
    'after=abc',
    `after=${cursor([1, 'x'])}`,
    `after=${cursor(['x', 1])}`,
  ])
    expect((await get(`/events?${query}`)).status, query).toBe(400)
})

it('exports CSV and NDJSON', async () => {
  const csv = await fetched('/events/export')
  expect(csv.headers.get('content-type')).toContain('text/csv')
  const lines = (await csv.text()).trimEnd().split('\n')
  expect(lines[0]).toBe('id,time,device,kind,client,gateway,reason,epoch,details')
  expect(lines).toHaveLength(count + 1)
  expect(lines[1]).toContain(',"c,1",,"said ""bye""",')
  const json = (await (await fetched('/events/export?format=ndjson&kind=lost&limit=2')).text()).trimEnd().split('\n')
  expect(json).toHaveLength(2)
  expect(JSON.parse(json[0] as string)).toMatchObject({ kind: 'lost', client: 'c,1', details: { client: 'c,1' } })
  expect(JSON.parse(json[0] as string)).not.toHaveProperty('gateway')
})

it('a token of one tenant sees that one alone, whichever route reads', async () => {
  expect((await get('/events', acme)).events.map(({ device, epoch }) => [device, epoch])).toEqual([['fan', 3]])
  expect((await (await fetched('/events/export', acme)).text()).trimEnd().split('\n')).toHaveLength(2)
  for (const path of ['/events?tenant=default', '/events/export?tenant=default'])
    expect(await get(path, acme), path).toMatchObject({ status: 403, code: 'not_allowed' })
})
