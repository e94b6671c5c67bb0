import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { migratedDatabase } from '#test/servers/fresh.ts'
import { addAdminToken, findAdminToken, revokeAdminToken } from './admin-tokens.ts'
import { listAudit } from './audit.ts'
import type { Change } from './change.ts'
import { addCredential, listCredentials, type NewCredential, revokeCredentials } from './credentials.ts'
import { readDeviceCsv } from './device-csv.ts'
import { addDevices, changeStatus, exportDevices, listDevices, showDevice } from './devices.ts'
import { importBatch } from './import-devices.ts'
import { keepDevice } from './kept-device.ts'
import { rotateToken } from './rotate-token.ts'
import { addTenant, listTenants, removeTenant } from './tenants.ts'
import { hashOf, newToken } from './tokens.ts'

const by: Change = { actor: 'cli:test', makesTenants: true }
const byAdmin: Change = { actor: 'admin:a', makesTenants: false }
const opened = new AsyncDisposableStack()
let url: string
let client: pg.Client

beforeAll(async () => {
  url = opened.use(await migratedDatabase()).url
  client = await connected()
})
beforeEach(async () => {
  await client.query('TRUNCATE audit, admin_token, credential, device, metric, latest CASCADE')
  await client.query(`DELETE FROM tenant WHERE name <> 'default'`)
})
afterAll(() => opened.disposeAsync())

async function connected(): Promise<pg.Client> {
  const one = new pg.Client(url)
  await one.connect()
  opened.defer(() => one.end())
  return one
}

const add = (...ids: string[]) =>
  addDevices(
    client,
    by,
    'default',
    ids.map((device) => ({ device })),
  )
const status = (state: 'enabled' | 'disabled' | 'removed', ...devices: string[]) =>
  changeStatus(client, by, { tenant: 'default', devices, status: state })
const credential = (more: Partial<NewCredential> = {}) =>
  addCredential(client, by, {
    tenant: 'default',
    device: 'pump-1',
    proof: { kind: 'token' },
    role: 'device',
    makesDevice: false,
    ...more,
  })
const credentialsOf = (device: string) => listCredentials(client, { tenant: 'default', device, limit: 100 })
const refused = (refusal: string, message: RegExp) =>
  expect.objectContaining({ code: 'BRIDGE_USAGE', details: { refusal }, message: expect.stringMatching(message) })

describe('devices', () => {
  it('are disabled and enabled, all or none, and only what changed is audited', async () => {
    await add('a', 'b')
    expect(await status('disabled', 'a')).toEqual(['a'])
    expect(await status('disabled', 'a', 'b')).toEqual(['b'])
    await expect(status('enabled', 'a', 'nobody')).rejects.toEqual(refused('not_found', /no device "nobody"/))
    expect(await listDevices(client, { tenant: 'default', limit: 10, status: 'disabled' })).toHaveLength(2)
    const audit = await listAudit(client, { limit: 10, action: 'device.disable' })
    expect(audit.map(({ subject }) => subject)).toEqual(['b', 'a'])
  })

  it('are removed for good: their credentials end, and their ids are never given to another', async () => {
    await add('pump-1')
    await credential({ role: 'operator' })
    expect(await status('removed', 'pump-1')).toEqual(['pump-1'])
    expect(await status('removed', 'pump-1')).toEqual([])
    expect((await credentialsOf('pump-1')).map(({ live }) => live)).toEqual([false, false])
    const gone = refused('conflict', /never given to another/)
    await expect(add('pump-2', 'pump-1')).rejects.toEqual(gone)
    await expect(status('enabled', 'pump-1')).rejects.toEqual(gone)
    await expect(credential()).rejects.toEqual(gone)
    await expect(credential({ role: 'fleet', makesDevice: true })).rejects.toEqual(gone)
    await expect(keepDevice(client, by, { tenant: 'default', device: 'pump-1', token: newToken() })).rejects.toEqual(
      gone,
    )
    expect(await listDevices(client, { tenant: 'default', limit: 10 })).toEqual([])
    expect(await listDevices(client, { tenant: 'default', limit: 10, status: 'removed' })).toHaveLength(1)
  })

  it('are shown with their credentials', async () => {
    await addDevices(client, by, 'default', [{ device: 'pump-1', type: 'pump', site: 'Halle 1' }])
    await credential({ name: 'second', expires: new Date('2099-01-01T00:00:00Z') })
    expect(await showDevice(client, 'default', 'pump-1')).toMatchObject({
      device: 'pump-1',
      type: 'pump',
      site: 'Halle 1',
      credentials: [{ name: null }, { name: 'second', expires: '2099-01-01T00:00:00Z', lastUsed: null }],
    })
    await expect(showDevice(client, 'default', 'pump-2')).rejects.toEqual(refused('not_found', /devices add pump-2/))
  })

  it('are exported in pages, without the removed ones', async () => {
    const ids = Array.from({ length: 2100 }, (_, index) => `d-${index}`)
    await add(...ids)
    await status('removed', 'd-7')
    const exported: string[] = []
    for await (const page of exportDevices(client, 'default')) exported.push(...page.map(({ device }) => device))
    expect(exported).toEqual(ids.filter((id) => id !== 'd-7'))
  })

  it('added by two at once are there once, and the other is told', async () => {
    const other = await connected()
    const both = [client, other].map((one) => addDevices(one, by, 'default', [{ device: 'race' }]))
    const results = await Promise.allSettled(both)
    expect(results.map((result) => result.status).sort()).toEqual(['fulfilled', 'rejected'])
    const failure = results.find((result) => result.status === 'rejected')
    expect(failure?.reason).toMatchObject({ code: 'BRIDGE_USAGE', details: { refusal: 'conflict' } })
  })
})

describe('credentials', () => {
  it('of each kind and role keep what they must, and no secret', async () => {
    await add('pump-1')
    const { token } = await credential({ role: 'fleet', device: 'gw', pattern: 'site-*', makesDevice: true })
    await credential({ role: 'operator', device: 'dash', makesDevice: true })
    await credential({ proof: { kind: 'password', password: 'correct horse' } })
    await credential({ proof: { kind: 'certificate', fingerprint: randomBytes(32) } })
    const rows = await listCredentials(client, { tenant: 'default', limit: 10 })
    expect(rows.map(({ device, kind, role, pattern }) => `${device} ${kind} ${role} ${pattern}`).sort()).toEqual([
      'dash token operator null',
      'gw token fleet site-*',
      'pump-1 certificate device null',
      'pump-1 password device null',
      'pump-1 token device null',
    ])
    const { rows: everything } = await client.query('SELECT credential::text AS t FROM credential')
    const { rows: audit } = await client.query('SELECT audit::text AS t FROM audit')
    const text = JSON.stringify([everything, audit])
    expect(text).not.toContain('correct horse')
    expect(text).not.toContain(token)
    expect(text.match(/credential\.add/g)).toHaveLength(4)
  })

  it.each([
    ['short', 'invalid', /8 characters/],
    ['x'.repeat(257), 'invalid', /256 bytes/],
    ['with\nnewline', 'invalid', /control/],
    ['pump-long-1', 'invalid', /name of its device/],
    [`fb_${'x'.repeat(43)}`, 'invalid', /looks like/],
    ['eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln', 'invalid', /looks like/],
  ])('no password: %j', async (password, refusal, message) => {
    await add('pump-long-1')
    await expect(credential({ device: 'pump-long-1', proof: { kind: 'password', password } })).rejects.toEqual(
      refused(refusal, message),
    )
  })

  it('refuses a certificate that is known, and one that was revoked', async () => {
    await add('pump-1', 'pump-2')
    const proof = { kind: 'certificate', fingerprint: randomBytes(32) } as const
    const { id } = await credential({ proof })
    await expect(credential({ proof, device: 'pump-2' })).rejects.toEqual(refused('conflict', /already/))
    await revokeCredentials(client, by, { id })
    await expect(credential({ proof })).rejects.toEqual(refused('conflict', /revoked/))
  })

  it('keeps to a number of live ones', async () => {
    await add('pump-1')
    const proof = { kind: 'password', password: 'correct horse' } as const
    for (let count = 0; count < 4; count++) await credential({ proof })
    await expect(credential({ proof })).rejects.toEqual(refused('conflict', /4 live credentials/))
    await revokeCredentials(client, by, { tenant: 'default', device: 'pump-1' })
    await credential({ proof })
  })

  it('are revoked by id, all of a device, or by the fingerprint of one that only its authority knows', async () => {
    await add('pump-1', 'pump-2')
    const { id } = await credential()
    expect(await revokeCredentials(client, by, { id })).toBe(1)
    expect(await revokeCredentials(client, by, { id }), 'a second time').toBe(0)
    expect(await revokeCredentials(client, by, { tenant: 'default', device: 'pump-1' })).toBe(1)
    const fingerprint = randomBytes(32)
    const certificate = { tenant: 'default', device: 'pump-1', fingerprint }
    expect(await revokeCredentials(client, by, certificate)).toBe(1)
    expect(await revokeCredentials(client, by, certificate)).toBe(0)
    await expect(revokeCredentials(client, by, { ...certificate, device: 'pump-2' })).rejects.toEqual(
      refused('conflict', /another device/),
    )
    const { rows } = await client.query(
      'SELECT kind FROM credential WHERE secret_hash = $1 AND revoked_at IS NOT NULL',
      [fingerprint],
    )
    expect(rows).toEqual([{ kind: 'certificate' }])
    await expect(revokeCredentials(client, by, { id: crypto.randomUUID() })).rejects.toEqual(refused('not_found', /no/))
    await expect(revokeCredentials(client, by, { id: 'x' })).rejects.toEqual(refused('invalid', /no id/))
    expect(await listAudit(client, { limit: 10, action: 'credential.revoke' })).toHaveLength(3)
  })
})

describe('rotation', () => {
  const rotate = (
    overlapMs: number,
    of: Parameters<typeof rotateToken>[2]['of'] = { tenant: 'default', device: 'pump-1' },
  ) => rotateToken(client, by, { of, overlapMs })
  const secondsLeft = async (id: string) =>
    (
      await client.query('SELECT extract(epoch FROM expires_at - now())::float8 AS s FROM credential WHERE id = $1', [
        id,
      ])
    ).rows[0].s

  it('adds a token with the same rights, and ends the old ones after the overlap', async () => {
    const old = await credential({ role: 'fleet', pattern: 'site-*', name: 'gw', makesDevice: true })
    const made = await rotate(3_600_000)
    expect(made).toMatchObject({ device: 'pump-1', replaced: [old.id], token: expect.stringMatching(/^fb_/) })
    expect(await credentialsOf('pump-1')).toMatchObject([
      { id: old.id, live: true },
      { id: made.id, live: true, role: 'fleet', pattern: 'site-*', name: 'gw', expires: null },
    ])
    expect(await secondsLeft(old.id)).toBeCloseTo(3600, -2)
  })

  it('ends nothing later than it would end anyway, and at once without an overlap', async () => {
    await add('pump-1')
    const soon = await credential({ expires: new Date(Date.now() + 60_000) })
    await rotate(3_600_000)
    expect(await secondsLeft(soon.id)).toBeLessThan(61)
    await rotate(0)
    expect((await credentialsOf('pump-1')).filter(({ live }) => live)).toHaveLength(1)
  })

  it('leaves passwords and certificates alone', async () => {
    await add('pump-1')
    await credential({ proof: { kind: 'certificate', fingerprint: randomBytes(32) } })
    await rotate(0)
    const live = (await credentialsOf('pump-1')).filter((row) => row.live)
    expect(live.map(({ kind }) => kind)).toEqual(['certificate', 'token'])
  })

  it('wants one token where rights differ, and a live one', async () => {
    await add('pump-1')
    const operator = await credential({ role: 'operator' })
    await expect(rotate(0)).rejects.toEqual(refused('conflict', /different rights/))
    expect(await rotate(0, { id: operator.id })).toMatchObject({ replaced: [operator.id] })
    await expect(rotate(0, { id: operator.id })).rejects.toEqual(refused('conflict', /no live token/))
    await expect(rotate(0, { id: crypto.randomUUID() })).rejects.toEqual(refused('not_found', /no credential/))
    await expect(rotate(0, { tenant: 'default', device: 'nobody' })).rejects.toEqual(refused('not_found', /nobody/))
  })

  it('by two at once leaves two new tokens, and each old one ends', async () => {
    await add('pump-1')
    const other = await connected()
    const of = { tenant: 'default', device: 'pump-1' }
    await Promise.all([client, other].map((one) => rotateToken(one, by, { of, overlapMs: 60_000 })))
    const rows = await credentialsOf('pump-1')
    expect(rows.filter(({ expires }) => expires === null)).toHaveLength(1)
    expect(rows).toHaveLength(3)
  })
})

describe('tenants', () => {
  it('are made by the command line with their first device, and not by the API', async () => {
    await expect(addDevices(client, byAdmin, 'acme', [{ device: 'a' }])).rejects.toEqual(
      refused('not_found', /tenants add acme/),
    )
    await addDevices(client, by, 'acme', [{ device: 'a' }])
    expect(await listTenants(client)).toMatchObject([
      { tenant: 'acme', devices: 1 },
      { tenant: 'default', devices: 0 },
    ])
    await expect(addTenant(client, by, 'acme')).rejects.toEqual(refused('conflict', /already/))
    expect((await listAudit(client, { limit: 10, tenant: 'acme' })).map(({ action }) => action)).toEqual([
      'device.add',
      'tenant.add',
    ])
  })

  it('are removed when their devices are, and their names are not used again', async () => {
    await addDevices(client, by, 'acme', [{ device: 'a' }])
    await expect(removeTenant(client, by, 'acme')).rejects.toEqual(refused('conflict', /1 device.*devices remove/))
    await expect(removeTenant(client, by, 'default')).rejects.toEqual(refused('invalid', /default stays/))
    await changeStatus(client, by, { tenant: 'acme', devices: ['a'], status: 'removed' })
    await removeTenant(client, by, 'acme')
    expect((await listTenants(client)).map(({ tenant }) => tenant)).toEqual(['default'])
    const gone = refused('conflict', /not used again/)
    await expect(removeTenant(client, by, 'acme')).rejects.toEqual(gone)
    await expect(addTenant(client, by, 'acme')).rejects.toEqual(gone)
    await expect(addDevices(client, by, 'acme', [{ device: 'b' }])).rejects.toEqual(gone)
  })

  it('that never had a device leave nothing behind', async () => {
    await addTenant(client, by, 'typo')
    const { rows: made } = await client.query(`SELECT fleetbridge_create_tenant_reader('typo') AS role`)
    await removeTenant(client, by, 'typo')
    expect((await client.query('SELECT FROM pg_roles WHERE rolname = $1', [made[0].role])).rowCount).toBe(0)
    await addTenant(client, by, 'typo')
  })
})

describe('import', () => {
  async function importing(csv: string, options = { renew: false, overlapMs: 0 }, who = by) {
    const total = { added: [] as string[], renewed: [] as string[], skipped: 0, rejected: [] as string[] }
    for await (const { rows } of (await readDeviceCsv(Readable.from([csv]), 'default')).batches) {
      const batch = await importBatch(client, who, rows, options)
      total.added.push(...batch.added.map(({ device }) => device))
      total.renewed.push(...batch.renewed.map(({ device }) => device))
      total.skipped += batch.skipped
      total.rejected.push(...batch.rejected.map(({ line, reason }) => `${line}: ${reason}`))
    }
    return total
  }

  it('twice adds nothing twice; after an interruption the second run adds the rest', async () => {
    const lines = Array.from({ length: 2500 }, (_, index) => `d-${index},meter,`)
    await importing(['device,type,site', ...lines.slice(0, 1200)].join('\n'))
    const second = await importing(['device,type,site', ...lines].join('\n'))
    expect(second).toMatchObject({ skipped: 1200, rejected: [] })
    expect(second.added).toHaveLength(1300)
    const { rows } = await client.query(
      `SELECT count(*)::int AS devices, count(DISTINCT secret_hash)::int AS tokens, min(type) AS type,
         (SELECT count(*)::int FROM audit WHERE action = 'device.add') AS audited
       FROM device JOIN credential ON device_id = device.id`,
    )
    expect(rows).toEqual([{ devices: 2500, tokens: 2500, type: 'meter', audited: 2500 }])
  })

  it('gives each device the token that is told', async () => {
    const { rows: given } = (await (await readDeviceCsv(Readable.from(['device\nb\na\n']), 'default')).batches.next())
      .value
    const { added } = await importBatch(client, by, given, { renew: false, overlapMs: 0 })
    const { rows } = await client.query(
      'SELECT external_id AS device, secret_hash AS hash FROM device JOIN credential ON device_id = device.id',
    )
    const hashes = new Map(rows.map(({ device, hash }) => [device, hash.toString('hex')]))
    for (const { device, token } of added) expect(hashes.get(device)).toBe(hashOf(token).toString('hex'))
  })

  it('renews: new tokens, and old ones of devices end after the overlap, not those of fleets', async () => {
    await importing('device\npump-1\n')
    const fleet = await credential({ role: 'fleet' })
    expect(await importing('device\npump-1\npump-2\n', { renew: true, overlapMs: 60_000 })).toMatchObject({
      added: ['pump-2'],
      renewed: ['pump-1'],
      skipped: 0,
    })
    const rows = await credentialsOf('pump-1')
    expect(
      rows.map(({ id, expires }) => (id === fleet.id ? 'fleet' : expires === null ? 'new' : 'old')).sort(),
    ).toEqual(['fleet', 'new', 'old'])
    expect(rows.find(({ id }) => id === fleet.id)?.expires).toBeNull()
  })

  it('rejects removed devices and unknown tenants, and goes on with the others', async () => {
    await add('gone')
    await status('removed', 'gone')
    const { added, rejected } = await importing('device,tenant\nok,\ngone,\nx,nobodys\n', undefined, byAdmin)
    expect(added).toEqual(['ok'])
    expect(rejected).toEqual([
      expect.stringMatching(/^3: was removed/),
      expect.stringMatching(/^4: there is no tenant nobodys/),
    ])
  })
})

describe('admin tokens', () => {
  it('are found by their hash until they are revoked or end', async () => {
    const { id, token } = await addAdminToken(client, by, { name: 'ops', role: 'operator' })
    expect(token).toMatch(/^fba_[\w-]{43}$/)
    expect(await findAdminToken(client, hashOf(token))).toEqual({ name: 'ops', role: 'operator' })
    await expect(addAdminToken(client, by, { name: 'ops', role: 'admin' })).rejects.toEqual(refused('conflict', /live/))
    expect(await revokeAdminToken(client, by, id)).toBe(true)
    expect(await revokeAdminToken(client, by, id)).toBe(false)
    expect(await findAdminToken(client, hashOf(token))).toBeUndefined()
    const expires = new Date(Date.now() - 1000)
    const ended = await addAdminToken(client, by, { name: 'ops', role: 'viewer', expires })
    expect(await findAdminToken(client, hashOf(ended.token))).toBeUndefined()
  })

  it.each(['', 'config', 'up', 'a b', 'x'.repeat(65), "'; --"])('no name: %j', async (name) => {
    await expect(addAdminToken(client, by, { name, role: 'viewer' })).rejects.toMatchObject({ code: 'BRIDGE_USAGE' })
  })
})
