import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { PeerCertificate } from 'node:tls'
import { SignJWT } from 'jose'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { createMetrics } from '#platform/metrics.ts'
import { makeCertificate } from './certificate.fixture.ts'
import { hashPassword } from './password-hash.ts'
import type { Principal } from './principal.ts'
import { deviceOf, openRegistryDatabase, type RegistryDatabase, sha256 } from './registry.fixture.ts'

let database: RegistryDatabase

beforeEach(async () => {
  database = await openRegistryDatabase()
})

afterEach(async () => {
  await database[Symbol.asyncDispose]()
})

it('knows tokens, compares user names and tells wrong from disabled', async () => {
  const pump = await database.addCredential('pump-1')
  const expired = await database.addCredential('pump-2', { expires: '2020-01-01' })
  await using registry = await database.start()
  expect(deviceOf(registry, pump)).toBe('pump-1')
  expect(deviceOf(registry, pump, 'pump-1')).toBe('pump-1')
  expect(deviceOf(registry, pump, 'pump-1@default')).toBe('pump-1')
  for (const name of ['pump-2', 'pump-1@other', '', '__proto__', 'pump-1@'])
    expect(deviceOf(registry, pump, name)).toBe('unknown')
  for (const token of [`${pump}x`, 'fb_', '', '__proto__']) expect(deviceOf(registry, token)).toBe('unknown')
  expect(registry.authenticate({})).toBe('unknown')
  expect(deviceOf(registry, expired)).toBe('disabled')
})

it('knows passwords and operators from their rows', async () => {
  const device = await database.addDevice('pump-6')
  await database.client.query(`INSERT INTO credential (device_id, kind, password_hash) VALUES ($1, 'password', $2)`, [
    device,
    await hashPassword('pencil'),
  ])
  await database.client.query(`INSERT INTO credential (device_id, operator, secret_hash) VALUES ($1, true, $2)`, [
    device,
    createHash('sha256').update('fb_operator').digest(),
  ])
  await using registry = await database.start()
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
    await using registry = await database.start({
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
      Promise.all([registry.authenticate({ secret: jwt, username: 'pump-8' }), registry.authenticate({ certificate })])
    expect(await ask()).toEqual(['unknown', 'unknown'])
    const device = await database.addDevice('pump-8')
    await registry.refreshed()
    const principals = await ask()
    expect(principals).toMatchObject([{ device: 'pump-8' }, { device: 'pump-8' }])
    const live = () => principals.map((principal) => registry.isLive(principal as Principal))
    expect(live()).toEqual([true, true])
    await database.client.query(
      `INSERT INTO credential (device_id, kind, secret_hash, revoked_at) VALUES ($1, 'certificate', $2, now())`,
      [device, Buffer.from(certificate?.fingerprint ?? '', 'base64')],
    )
    await vi.waitFor(() => expect(live()).toEqual([true, false]), 2000)
    await database.client.query(`UPDATE device SET status = 'removed'`)
    await vi.waitFor(() => expect(live()).toEqual([false, false]), 2000)
    expect(await ask()).toEqual(['disabled', 'disabled'])
  } finally {
    await rm(folder, { recursive: true })
  }
})

it('bounds the unknown devices of a fleet credential, and admits known ones', async () => {
  const token = await database.addCredential('gw-1', { fleet: true, pattern: 'site1-*' })
  await database.addCredential('site1-known')
  await using registry = await database.start({ firstSightDevices: 2 })
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
  await database.client.query(`UPDATE device SET status = 'disabled' WHERE external_id = 'site1-known'`)
  await registry.refreshed()
  expect(registry.admitDevice(principal, 'site1-known')).toBe('disabled')
})

it('counts first-sight devices over the life of a fleet, whichever credential and process', async () => {
  const token = await database.addCredential('gw-2', { fleet: true })
  const rotated = await database.addCredential('gw-2', { fleet: true })
  await database.client.query(
    `INSERT INTO device (tenant_id, external_id, created_by)
     SELECT 1, 'seen-' || n, (SELECT id FROM credential WHERE secret_hash = $1) FROM generate_series(1, 2) n`,
    [sha256(token)],
  )
  await using registry = await database.start({ firstSightDevices: 4 })
  const [before, after] = [token, rotated].map((secret) => registry.authenticate({ secret }) as Principal)
  expect(registry.admitDevice(before as Principal, 'seen-1')).toBe('admitted')
  expect(registry.admitDevice(before as Principal, 'new-1')).toBe('admitted')
  expect(registry.admitDevice(after as Principal, 'new-2')).toBe('admitted')
  expect(registry.admitDevice(after as Principal, 'new-3')).toBe('too_many_devices')
  await using slow = await database.start({ firstSightDevices: 100, firstSightPerMinute: 2 })
  const fleet = slow.authenticate({ secret: token }) as Principal
  expect(['x', 'y', 'z', 'x'].map((device) => slow.admitDevice(fleet, device))).toEqual([
    'admitted',
    'admitted',
    'too_many_devices',
    'admitted',
  ])
})

it('counts what was shown, by kind and result', async () => {
  const token = await database.addCredential('pump-7')
  const metrics = createMetrics('test')
  await using registry = await database.start({ metrics })
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
  await using registry = await database.start({ databaseUrl: 'postgres://127.0.0.1:1/none' })
  expect(registry.loaded()).toBe(false)
  expect(registry.authenticate({ secret: 'fb_x' })).toBe('unavailable')
})
