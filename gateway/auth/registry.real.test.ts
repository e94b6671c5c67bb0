import { createHash, randomBytes } from 'node:crypto'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import { migrate } from '#platform/migrate.ts'
import { freshDatabase } from '#test/servers/fresh.ts'
import { type Registry, startRegistry } from './registry.ts'

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

function start(more: { firstSightDevices?: number; firstSightPerMinute?: number; url?: string } = {}) {
  const { firstSightDevices = 3, firstSightPerMinute = 60, url = database.url } = more
  return startRegistry({
    databaseUrl: url,
    auth: { jwt: [], clientCas: [] },
    limits: { firstSightDevices, firstSightPerMinute },
    log: silentLog,
    metrics: createMetrics('test'),
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

  it('starts without Postgres and calls nobody unknown', async () => {
    await using registry = await start({ url: 'postgres://127.0.0.1:1/none' })
    expect(registry.loaded()).toBe(false)
    expect(registry.authenticate({ secret: 'fb_x' })).toBe('unavailable')
  })
})
