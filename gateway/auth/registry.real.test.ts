import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, connect as connectTo, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { PeerCertificate } from 'node:tls'
import { SignJWT } from 'jose'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { silentLog } from '#platform/log.ts'
import { createMetrics, type Metrics } from '#platform/metrics.ts'
import { migrate } from '#platform/migrate.ts'
import { freshDatabase } from '#test/servers/fresh.ts'
import { makeCertificate } from './certificate.fixture.ts'
import { hashPassword } from './password-hash.ts'
import type { Principal } from './principal.ts'
import { type Registry, type RegistryOptions, startRegistry } from './registry.ts'

let database: Awaited<ReturnType<typeof freshDatabase>>
let client: pg.Client

beforeEach(async () => {
  database = await freshDatabase()
  await migrate(database.url, silentLog)
  client = new pg.Client(database.url)
  await client.connect()
})

afterEach(async () => {
  await client.end().catch(() => {})
  await database[Symbol.asyncDispose]()
})

interface Wanted {
  firstSightDevices?: number
  firstSightPerMinute?: number
  url?: string
  metrics?: Metrics
  auth?: RegistryOptions['auth']
}

function start(wanted: Wanted = {}) {
  const { auth = { jwt: [], clientCas: [] } } = wanted
  const {
    firstSightDevices = 3,
    firstSightPerMinute = 60,
    url = database.url,
    metrics = createMetrics('test'),
  } = wanted
  return startRegistry({
    databaseUrl: url,
    auth,
    limits: { firstSightDevices, firstSightPerMinute },
    log: silentLog,
    metrics,
  })
}

async function addCredential(
  device: string,
  more: { fleet?: boolean; pattern?: string; expires?: string } = {},
): Promise<string> {
  const token = `fb_${randomBytes(32).toString('base64url')}`
  await client.query(
    `WITH d AS (
       INSERT INTO device (tenant_id, external_id) SELECT id, $1 FROM tenant WHERE name = 'default'
       ON CONFLICT (tenant_id, external_id) DO UPDATE SET external_id = excluded.external_id RETURNING id)
     INSERT INTO credential (device_id, secret_hash, fleet, pattern, expires_at) SELECT id, $2, $3, $4, $5 FROM d`,
    [
      device,
      createHash('sha256').update(token).digest(),
      more.fleet ?? false,
      more.pattern ?? null,
      more.expires ?? null,
    ],
  )
  return token
}

async function addCredentials(devices: readonly string[]): Promise<string[]> {
  const tokens: string[] = []
  for (const device of devices) tokens.push(await addCredential(device))
  return tokens
}

async function addDevice(device: string): Promise<number> {
  const { rows } = await client.query<{ id: number }>(
    `INSERT INTO device (tenant_id, external_id) SELECT id, $1 FROM tenant WHERE name = 'default' RETURNING id`,
    [device],
  )
  return (rows[0] as { id: number }).id
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

/** Stands before Postgres, and can be cut off. */
async function startProxy(databaseUrl: string) {
  const target = new URL(databaseUrl)
  const sockets = new Set<Socket>()
  const make = () =>
    createServer((near) => {
      const far = connectTo(Number(target.port || 5432), target.hostname)
      for (const socket of [near, far]) {
        sockets.add(socket)
        socket.on('error', () => {})
        socket.on('close', () => {
          sockets.delete(socket)
          near.destroy()
          far.destroy()
        })
      }
      near.pipe(far)
      far.pipe(near)
    })
  let server = make().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const cut = () => {
    server.close()
    for (const socket of sockets) socket.destroy()
  }
  const url = new URL(databaseUrl)
  url.hostname = '127.0.0.1'
  url.port = String(port)
  return {
    url: url.href,
    cut,
    async mend() {
      server = make().listen(port, '127.0.0.1')
      await once(server, 'listening')
    },
    async [Symbol.asyncDispose]() {
      cut()
    },
  }
}

function deviceOf(registry: Registry, token: string, username?: string): string {
  const answer = registry.authenticate({ secret: token, username })
  if (answer instanceof Promise) throw new Error('a token is looked up at once')
  return typeof answer === 'string' ? answer : answer.device
}

describe('the registry', () => {
  it('knows tokens, compares user names and tells wrong from disabled', async () => {
    const pump = await addCredential('pump-1')
    const expired = await addCredential('pump-2', { expires: '2020-01-01' })
    await using registry = await start()
    expect(deviceOf(registry, pump)).toBe('pump-1')
    expect(deviceOf(registry, pump, 'pump-1')).toBe('pump-1')
    expect(deviceOf(registry, pump, 'pump-1@default')).toBe('pump-1')
    for (const name of ['pump-2', 'pump-1@other', '', '__proto__', 'pump-1@'])
      expect(deviceOf(registry, pump, name)).toBe('unknown')
    for (const token of [`${pump}x`, 'fb_', '', '__proto__']) expect(deviceOf(registry, token)).toBe('unknown')
    expect(registry.authenticate({})).toBe('unknown')
    expect(deviceOf(registry, expired)).toBe('disabled')
  })

  it('learns new credentials, revocations and disabled devices while it runs', async () => {
    await using registry = await start()
    const token = await addCredential('pump-3')
    await vi.waitFor(() => expect(deviceOf(registry, token)).toBe('pump-3'), 3000)
    await client.query('UPDATE credential SET revoked_at = now()')
    await vi.waitFor(() => expect(deviceOf(registry, token)).toBe('disabled'), 3000)
    await client.query('UPDATE credential SET revoked_at = null')
    await vi.waitFor(() => expect(deviceOf(registry, token)).toBe('pump-3'), 3000)
    await client.query(`UPDATE device SET status = 'disabled'`)
    await vi.waitFor(() => expect(deviceOf(registry, token)).toBe('disabled'), 3000)
  })

  it('keeps what it knows when its connection is cut, and reads on afterwards', async () => {
    const token = await addCredential('pump-4')
    await using registry = await start()
    await client.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fleetbridge registry' AND datname = current_database()`,
    )
    expect(deviceOf(registry, token)).toBe('pump-4')
    const later = await addCredential('pump-5')
    await vi.waitFor(() => expect(deviceOf(registry, later)).toBe('pump-5'), 10_000)
  })

  it('bounds the unknown devices of a fleet credential, and admits known ones', async () => {
    const token = await addCredential('gw-1', { fleet: true, pattern: 'site1-*' })
    await addCredential('site1-known')
    await using registry = await start({ firstSightDevices: 2 })
    const principal = await registry.authenticate({ secret: token })
    if (typeof principal === 'string') throw new Error(principal)
    expect(principal.allows('site1-a')).toBe(true)
    expect(principal.allows('site2-a')).toBe(false)
    expect(principal.allows('gw-1')).toBe(true)
    expect(registry.admitDevice(principal, 'site1-a')).toBe('admitted')
    expect(registry.admitDevice(principal, '__proto__')).toBe('admitted')
    expect(registry.admitDevice(principal, 'site1-c')).toBe('too_many_devices')
    expect(registry.admitDevice(principal, 'site1-a')).toBe('admitted')
    expect(registry.admitDevice(principal, 'site1-known')).toBe('admitted')
    await client.query(`UPDATE device SET status = 'disabled' WHERE external_id = 'site1-known'`)
    await registry.refreshed()
    expect(registry.admitDevice(principal, 'site1-known')).toBe('disabled')
  })

  it('knows passwords and operators from their rows', async () => {
    const device = await addDevice('pump-6')
    await client.query(`INSERT INTO credential (device_id, kind, password_hash) VALUES ($1, 'password', $2)`, [
      device,
      await hashPassword('pencil'),
    ])
    await client.query(`INSERT INTO credential (device_id, operator, secret_hash) VALUES ($1, true, $2)`, [
      device,
      createHash('sha256').update('fb_operator').digest(),
    ])
    await using registry = await start()
    expect(await registry.authenticate({ username: 'pump-6', secret: 'pencil' })).toMatchObject({ device: 'pump-6' })
    expect(await registry.authenticate({ username: 'pump-6', secret: 'pen' })).toBe('unknown')
    const operator = registry.authenticate({ secret: 'fb_operator' })
    expect(operator).toMatchObject({ device: 'pump-6', operator: true })
  })

  it('knows tokens of issuers and certificates of CAs, by the devices of its rows', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'registry-'))
    try {
      const ca = makeCertificate({ commonName: 'CA', ca: true })
      const secret = randomBytes(32)
      await writeFile(join(folder, 'keys.json'), JSON.stringify({ kty: 'oct', k: secret.toString('base64url') }))
      await writeFile(join(folder, 'ca.pem'), ca.pem)
      const issuer = { tenant: 'default', issuer: 'us', audience: 'bridge', keysFile: join(folder, 'keys.json') }
      await using registry = await start({
        auth: {
          jwt: [{ ...issuer, algorithms: ['HS256'] as never[] }],
          clientCas: [{ tenant: 'default', file: join(folder, 'ca.pem') }],
        },
      })
      const jwt = await new SignJWT({ sub: 'pump-8' })
        .setProtectedHeader({ alg: 'HS256' })
        .setIssuer('us')
        .setAudience('bridge')
        .setExpirationTime('1h')
        .sign(secret)
      const { x509 } = makeCertificate({ commonName: 'pump-8', issuer: ca })
      const certificate = registry.clientCertificateOf(x509.toLegacyObject() as PeerCertificate)
      const ask = () =>
        Promise.all([
          registry.authenticate({ secret: jwt, username: 'pump-8' }),
          registry.authenticate({ certificate }),
        ])
      expect(await ask()).toEqual(['unknown', 'unknown'])
      const device = await addDevice('pump-8')
      await registry.refreshed()
      const principals = await ask()
      expect(principals).toMatchObject([{ device: 'pump-8' }, { device: 'pump-8' }])
      const live = () => principals.map((principal) => registry.isLive(principal as Principal))
      expect(live()).toEqual([true, true])
      await client.query(
        `INSERT INTO credential (device_id, kind, secret_hash, revoked_at) VALUES ($1, 'certificate', $2, now())`,
        [device, Buffer.from(certificate?.fingerprint ?? '', 'base64')],
      )
      await vi.waitFor(() => expect(live()).toEqual([true, false]), 2000)
      await client.query(`UPDATE device SET status = 'removed'`)
      await vi.waitFor(() => expect(live()).toEqual([false, false]), 2000)
      expect(await ask()).toEqual(['disabled', 'disabled'])
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  it('ends sessions within 2 s: revoked, expired, disabled, removed, deleted; on every gateway', async () => {
    const tokens = await addCredentials(['a', 'b', 'c', 'd', 'e', 'stays'])
    await using first = await start()
    await using second = await start()
    const gateways = [first, second].map((registry) => {
      const calls = { count: 0 }
      registry.onChange(() => calls.count++)
      const principals = tokens.map((token) => registry.authenticate({ secret: token }) as Principal)
      return { calls, live: () => principals.map((principal) => registry.isLive(principal)) }
    })
    for (const { live } of gateways) expect(live()).toEqual([true, true, true, true, true, true])
    const of = `device_id = (SELECT id FROM device WHERE external_id = $1)`
    await client.query(`UPDATE credential SET revoked_at = now() WHERE ${of}`, ['a'])
    await client.query(`UPDATE credential SET expires_at = now() WHERE ${of}`, ['b'])
    await client.query(`UPDATE device SET status = 'disabled' WHERE external_id = 'c'`)
    await client.query(`UPDATE device SET status = 'removed' WHERE external_id = 'd'`)
    await client.query(`DELETE FROM credential WHERE ${of}`, ['e'])
    for (const { live, calls } of gateways) {
      await vi.waitFor(() => expect(live()).toEqual([false, false, false, false, false, true]), 2000)
      expect(calls.count).toBeGreaterThan(0)
    }
    expect(tokens.map((token) => first.authenticate({ secret: token })).slice(0, 5)).toEqual([
      'disabled',
      'disabled',
      'disabled',
      'disabled',
      'unknown',
    ])
  })

  it('hears of changes behind a pooler too, which swallows notifications', async () => {
    const tokens = await addCredentials(['a', 'b', 'stays'])
    await using registry = await start()
    await client.query('DROP TRIGGER credential_notify ON credential')
    const principals = tokens.map((token) => registry.authenticate({ secret: token }) as Principal)
    await client.query(`UPDATE credential SET revoked_at = now() WHERE secret_hash = $1`, [sha256(tokens[0] as string)])
    await client.query(`DELETE FROM credential WHERE secret_hash = $1`, [sha256(tokens[1] as string)])
    await client.query(`UPDATE credential SET secret_hash = $2 WHERE secret_hash = $1`, [
      sha256(tokens[2] as string),
      sha256('another'),
    ])
    await vi.waitFor(
      () => expect(principals.map((principal) => registry.isLive(principal))).toEqual([false, false, false]),
      2000,
    )
    expect(registry.authenticate({ secret: 'another' }), 'the same row with another token').toMatchObject({
      device: 'stays',
    })
    expect(registry.authenticate({ secret: tokens[2] })).toBe('unknown')
  })

  it('sees a change whose transaction took longer than the polls', async () => {
    const token = await addCredential('slow')
    await using registry = await start()
    await client.query('BEGIN')
    await client.query('UPDATE credential SET revoked_at = now()')
    await new Promise((resolve) => setTimeout(resolve, 2300))
    await registry.refreshed()
    expect(deviceOf(registry, token)).toBe('slow')
    await client.query('COMMIT')
    await vi.waitFor(() => expect(deviceOf(registry, token)).toBe('disabled'), 2000)
  })

  it('lets a fleet come back while Postgres is away, and reads what happened meanwhile', async () => {
    const tokens = await addCredentials(Array.from({ length: 50 }, (_, index) => `pump-${index}`))
    await client.query(
      `INSERT INTO credential (device_id, kind, password_hash) SELECT id, 'password', $1 FROM device LIMIT 1`,
      [await hashPassword('pencil')],
    )
    await using proxy = await startProxy(database.url)
    await using registry = await start({ url: proxy.url })
    proxy.cut()
    for (const token of tokens) expect(registry.authenticate({ secret: token })).toMatchObject({ fleet: false })
    const withPassword = await client.query<{ name: string }>(
      `SELECT external_id AS name FROM device d JOIN credential c ON c.device_id = d.id WHERE kind = 'password'`,
    )
    const username = withPassword.rows[0]?.name as string
    expect(await registry.authenticate({ username, secret: 'pencil' })).toMatchObject({ device: username })
    await client.query('UPDATE credential SET revoked_at = now() WHERE secret_hash = $1', [sha256(tokens[0] as string)])
    await client.query('DELETE FROM credential WHERE secret_hash = $1', [sha256(tokens[1] as string)])
    expect(deviceOf(registry, tokens[0] as string)).toBe('pump-0')
    await proxy.mend()
    await vi.waitFor(() => expect(deviceOf(registry, tokens[0] as string)).toBe('disabled'), 8000)
    expect(deviceOf(registry, tokens[1] as string)).toBe('unknown')
    expect(deviceOf(registry, tokens[2] as string)).toBe('pump-2')
  })

  it('counts first-sight devices over the life of a fleet, whichever credential and process', async () => {
    const token = await addCredential('gw-2', { fleet: true })
    const rotated = await addCredential('gw-2', { fleet: true })
    await client.query(
      `INSERT INTO device (tenant_id, external_id, created_by)
       SELECT 1, 'seen-' || n, (SELECT id FROM credential WHERE secret_hash = $1) FROM generate_series(1, 2) n`,
      [sha256(token)],
    )
    await using registry = await start({ firstSightDevices: 4 })
    const [before, after] = [token, rotated].map((secret) => registry.authenticate({ secret }) as Principal)
    expect(registry.admitDevice(before as Principal, 'seen-1')).toBe('admitted')
    expect(registry.admitDevice(before as Principal, 'new-1')).toBe('admitted')
    expect(registry.admitDevice(after as Principal, 'new-2')).toBe('admitted')
    expect(registry.admitDevice(after as Principal, 'new-3')).toBe('too_many_devices')
    await using slow = await start({ firstSightDevices: 100, firstSightPerMinute: 2 })
    const fleet = slow.authenticate({ secret: token }) as Principal
    expect(['x', 'y', 'z', 'x'].map((device) => slow.admitDevice(fleet, device))).toEqual([
      'admitted',
      'admitted',
      'too_many_devices',
      'admitted',
    ])
  })

  it('writes when credentials were used last, in one go, without making news of it', async () => {
    const [used, unused] = [await addCredential('used'), await addCredential('unused')]
    await using proxy = await startProxy(database.url)
    await using registry = await start({ url: proxy.url })
    const isOld = async () => {
      const { rows } = await client.query<{ name: string; recent: boolean | null }>(
        `SELECT external_id AS name, last_used_at > now() - interval '1 minute' AS recent
         FROM credential c JOIN device d ON d.id = c.device_id ORDER BY 1 DESC`,
      )
      return rows.map(({ recent }) => recent)
    }
    const before = await client.query('SELECT updated_at FROM credential ORDER BY id')
    for (let times = 0; times < 10; times++) deviceOf(registry, used)
    deviceOf(registry, unused, 'somebody else')
    proxy.cut()
    await expect(registry.settled()).rejects.toThrow()
    expect(await isOld()).toEqual([null, null])
    await proxy.mend()
    await client.query('ALTER TABLE credential RENAME COLUMN last_used_at TO hidden')
    await expect(registry.settled(), 'the statement itself fails').rejects.toThrow('last_used_at')
    await client.query('ALTER TABLE credential RENAME COLUMN hidden TO last_used_at')
    await registry.settled()
    expect(await isOld()).toEqual([true, null])
    expect((await client.query('SELECT updated_at FROM credential ORDER BY id')).rows).toEqual(before.rows)
  })

  it('counts what was shown, by kind and result', async () => {
    const token = await addCredential('pump-7')
    const metrics = createMetrics('test')
    await using registry = await start({ metrics })
    deviceOf(registry, token)
    deviceOf(registry, token, 'other')
    await registry.authenticate({})
    await registry.authenticate({ secret: 'wrong', username: 'pump-7' })
    const text = await metrics.registry.metrics()
    expect(text).toContain('fleetbridge_auth_total{kind="token",result="admitted"} 1')
    expect(text).toContain('fleetbridge_auth_total{kind="token",result="unknown"} 1')
    expect(text).toContain('fleetbridge_auth_total{kind="none",result="unknown"} 1')
    expect(text).toContain('fleetbridge_auth_total{kind="password",result="unknown"} 1')
    expect(text).toContain('fleetbridge_credentials 1')
  })

  it('starts without Postgres and calls nobody unknown', async () => {
    await using registry = await start({ url: 'postgres://127.0.0.1:1/none' })
    expect(registry.loaded()).toBe(false)
    expect(registry.authenticate({ secret: 'fb_x' })).toBe('unavailable')
  })
})
