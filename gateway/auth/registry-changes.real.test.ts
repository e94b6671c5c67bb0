import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { hashPassword } from './password-hash.ts'
import type { Principal } from './principal.ts'
import { deviceOf, openRegistryDatabase, type RegistryDatabase, sha256, startProxy } from './registry.fixture.ts'

let database: RegistryDatabase

beforeEach(async () => {
  database = await openRegistryDatabase()
})

afterEach(async () => {
  await database[Symbol.asyncDispose]()
})

it('learns new credentials, revocations and disabled devices while it runs', async () => {
  await using registry = await database.start()
  const token = await database.addCredential('pump-3')
  await vi.waitFor(() => expect(deviceOf(registry, token)).toBe('pump-3'), 3000)
  await database.client.query('UPDATE credential SET revoked_at = now()')
  await vi.waitFor(() => expect(deviceOf(registry, token)).toBe('disabled'), 3000)
  await database.client.query('UPDATE credential SET revoked_at = null')
  await vi.waitFor(() => expect(deviceOf(registry, token)).toBe('pump-3'), 3000)
  await database.client.query(`UPDATE device SET status = 'disabled'`)
  await vi.waitFor(() => expect(deviceOf(registry, token)).toBe('disabled'), 3000)
})

it('ends sessions within 2 s: revoked, expired, disabled, removed, deleted; on every gateway', async () => {
  const tokens = await database.addCredentials(['a', 'b', 'c', 'd', 'e', 'stays'])
  await using first = await database.start()
  await using second = await database.start()
  const gateways = [first, second].map((registry) => {
    const calls = { count: 0 }
    registry.onChange(() => calls.count++)
    const principals = tokens.map((token) => registry.authenticate({ secret: token }) as Principal)
    return { calls, live: () => principals.map((principal) => registry.isLive(principal)) }
  })
  for (const { live } of gateways) expect(live()).toEqual([true, true, true, true, true, true])
  const of = `device_id = (SELECT id FROM device WHERE external_id = $1)`
  await database.client.query(`UPDATE credential SET revoked_at = now() WHERE ${of}`, ['a'])
  await database.client.query(`UPDATE credential SET expires_at = now() WHERE ${of}`, ['b'])
  await database.client.query(`UPDATE device SET status = 'disabled' WHERE external_id = 'c'`)
  await database.client.query(`UPDATE device SET status = 'removed' WHERE external_id = 'd'`)
  await database.client.query(`DELETE FROM credential WHERE ${of}`, ['e'])
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
  const tokens = await database.addCredentials(['a', 'b', 'stays'])
  await using registry = await database.start()
  await database.client.query('DROP TRIGGER credential_notify ON credential')
  const principals = tokens.map((token) => registry.authenticate({ secret: token }) as Principal)
  await database.client.query(`UPDATE credential SET revoked_at = now() WHERE secret_hash = $1`, [
    sha256(tokens[0] as string),
  ])
  await database.client.query(`DELETE FROM credential WHERE secret_hash = $1`, [sha256(tokens[1] as string)])
  await database.client.query(`UPDATE credential SET secret_hash = $2 WHERE secret_hash = $1`, [
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
  const token = await database.addCredential('slow')
  await using registry = await database.start()
  await database.client.query('BEGIN')
  await database.client.query('UPDATE credential SET revoked_at = now()')
  await new Promise((resolve) => setTimeout(resolve, 2300))
  await registry.refreshed()
  expect(deviceOf(registry, token)).toBe('slow')
  await database.client.query('COMMIT')
  await vi.waitFor(() => expect(deviceOf(registry, token)).toBe('disabled'), 2000)
})

it('keeps what it knows when its connection is cut, and reads on afterwards', async () => {
  const token = await database.addCredential('pump-4')
  await using registry = await database.start()
  await database.client.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fleetbridge registry' AND datname = current_database()`,
  )
  expect(deviceOf(registry, token)).toBe('pump-4')
  const later = await database.addCredential('pump-5')
  await vi.waitFor(() => expect(deviceOf(registry, later)).toBe('pump-5'), 10_000)
})

it('lets a fleet come back while Postgres is away, and reads what happened meanwhile', async () => {
  const tokens = await database.addCredentials(Array.from({ length: 50 }, (_, index) => `pump-${index}`))
  await database.client.query(
    `INSERT INTO credential (device_id, kind, password_hash) SELECT id, 'password', $1 FROM device LIMIT 1`,
    [await hashPassword('pencil')],
  )
  await using proxy = await startProxy(database.url)
  await using registry = await database.start({ databaseUrl: proxy.url })
  proxy.cut()
  for (const token of tokens) expect(registry.authenticate({ secret: token })).toMatchObject({ fleet: false })
  const withPassword = await database.client.query<{ name: string }>(
    `SELECT external_id AS name FROM device d JOIN credential c ON c.device_id = d.id WHERE kind = 'password'`,
  )
  const username = withPassword.rows[0]?.name as string
  expect(await registry.authenticate({ username, secret: 'pencil' })).toMatchObject({ device: username })
  await database.client.query('UPDATE credential SET revoked_at = now() WHERE secret_hash = $1', [
    sha256(tokens[0] as string),
  ])
  await database.client.query('DELETE FROM credential WHERE secret_hash = $1', [sha256(tokens[1] as string)])
  expect(deviceOf(registry, tokens[0] as string)).toBe('pump-0')
  await proxy.mend()
  await vi.waitFor(() => expect(deviceOf(registry, tokens[0] as string)).toBe('disabled'), 8000)
  expect(deviceOf(registry, tokens[1] as string)).toBe('unknown')
  expect(deviceOf(registry, tokens[2] as string)).toBe('pump-2')
})

it('writes when credentials were used last, in one go, without making news of it', async () => {
  const [used, unused] = [await database.addCredential('used'), await database.addCredential('unused')]
  await using proxy = await startProxy(database.url)
  await using registry = await database.start({ databaseUrl: proxy.url })
  const isOld = async () => {
    const { rows } = await database.client.query<{ name: string; recent: boolean | null }>(
      `SELECT external_id AS name, last_used_at > now() - interval '1 minute' AS recent
       FROM credential c JOIN device d ON d.id = c.device_id ORDER BY 1 DESC`,
    )
    return rows.map(({ recent }) => recent)
  }
  const before = await database.client.query('SELECT updated_at FROM credential ORDER BY id')
  for (let times = 0; times < 10; times++) deviceOf(registry, used)
  deviceOf(registry, unused, 'somebody else')
  proxy.cut()
  await expect(registry.settled()).rejects.toThrow()
  expect(await isOld()).toEqual([null, null])
  await proxy.mend()
  await database.client.query('ALTER TABLE credential RENAME COLUMN last_used_at TO hidden')
  await expect(registry.settled(), 'the statement itself fails').rejects.toThrow('last_used_at')
  await database.client.query('ALTER TABLE credential RENAME COLUMN hidden TO last_used_at')
  await registry.settled()
  expect(await isOld()).toEqual([true, null])
  expect((await database.client.query('SELECT updated_at FROM credential ORDER BY id')).rows).toEqual(before.rows)
})
