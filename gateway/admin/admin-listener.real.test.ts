import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { silentLog } from '#platform/log.ts'
import { migratedDatabase } from '#test/servers/fresh.ts'
import type { Replayer } from '../dead-letters/replayer.ts'
import { startAdminListener } from './admin-listener.ts'
import { type AdminRole, addAdminToken } from './registry/admin-tokens.ts'
import { hashOf, newAdminToken } from './registry/tokens.ts'

const ownToken = newAdminToken()
const opened = new AsyncDisposableStack()
let client: pg.Client
let base: string
let databaseUrl: string
let tokens: Record<AdminRole, string>
let numbered = 0

beforeAll(async () => {
  const { url } = opened.use(await migratedDatabase())
  client = new pg.Client(url)
  await client.connect()
  opened.defer(() => client.end())
  const token = async (role: AdminRole) =>
    (await addAdminToken(client, { actor: 'cli:test', makesTenants: false }, { name: `a-${role}`, role })).token
  tokens = { viewer: await token('viewer'), operator: await token('operator'), admin: await token('admin') }
  databaseUrl = url
  base = await aListener()
})
afterAll(() => opened.disposeAsync())

/** As if every dead letter held no reading. */
const replayer: Replayer = {
  replay: (letters) => Promise.resolve(letters.map(({ id }) => ({ id, kind: 'ignored' }))),
}

/** @returns where it serves */
async function aListener(): Promise<string> {
  const own = { name: 'config', token: ownToken } as const
  const at = { host: '127.0.0.1', port: 0 }
  const limits = { show: async () => [] } // what a gateway says of them is gateway/limits.real.test.ts's business
  const { port } = opened.use(
    await startAdminListener(at, { databaseUrl, ownToken: own, limits, replayer, log: silentLog }),
  )
  return `http://127.0.0.1:${port}/admin/v1`
}

interface Answer {
  readonly status: number
  readonly headers: Headers
  // biome-ignore lint/suspicious/noExplicitAny: what a test reads it also checks
  readonly body: any
}

async function ask(
  method: string,
  path: string,
  token: string | undefined,
  body?: unknown,
  at = base,
): Promise<Answer> {
  const csv = typeof body === 'string'
  const answer = await fetch(`${at}${path}`, {
    method,
    headers: {
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
      ...(body !== undefined && { 'content-type': csv ? 'text/csv' : 'application/json' }),
    },
    ...(body !== undefined && { body: csv ? body : JSON.stringify(body) }),
  })
  const text = await answer.text() // an export of nothing is empty
  return { status: answer.status, headers: answer.headers, body: text === '' ? null : JSON.parse(text) }
}

/** A device of its own for each case. */
async function aDevice(): Promise<string> {
  const device = `pump-${++numbered}`
  expect((await ask('POST', '/devices', ownToken, { devices: [{ device }] })).status).toBe(201)
  return device
}

async function aCredential(): Promise<string> {
  return (await ask('POST', '/credentials', ownToken, { device: await aDevice() })).body.id
}

async function aLetter(): Promise<string> {
  const { rows } = await client.query(
    `INSERT INTO dead_letter (id, tenant, device, source, stage, code, message, acknowledged, ingest_time, payload)
     VALUES (gen_random_uuid(), 'default', 'pump-1', 'mqtt', 'decode', 'malformed', 'not JSON', true, now(), '{') RETURNING id`,
  )
  return rows[0].id
}

/** @returns the device */
async function aReading(): Promise<string> {
  const device = await aDevice()
  await client.query(
    `INSERT INTO metric (tenant_id, name) SELECT id, 't' FROM tenant WHERE name = 'default' ON CONFLICT DO NOTHING`,
  )
  return device
}

async function aType(): Promise<string> {
  const type = `type-${++numbered}`
  const contract = { metrics: { t: { type: 'number' } } }
  expect((await ask('POST', `/device-types/${type}`, ownToken, { mode: 'warn', contract })).status).toBe(200)
  return type
}

async function aTenant(): Promise<string> {
  const tenant = `tenant-${++numbered}`
  await ask('POST', '/tenants', ownToken, { tenant })
  return tenant
}

async function auditOf(subject: string): Promise<{ actor: string; action: string }[]> {
  return (await client.query('SELECT actor, action FROM audit WHERE subject = $1 ORDER BY id', [subject])).rows
}

type Action = readonly [
  what: string,
  least: AdminRole,
  status: number,
  () => Promise<readonly [string, string, unknown?]>,
]

const actions: Action[] = [
  ['whoami', 'viewer', 200, async () => ['GET', '/whoami']],
  ['list tenants', 'viewer', 200, async () => ['GET', '/tenants']],
  ['list devices', 'viewer', 200, async () => ['GET', '/devices']],
  ['show a device', 'viewer', 200, async () => ['GET', `/devices/${await aDevice()}`]],
  ['list credentials', 'viewer', 200, async () => ['GET', '/credentials']],
  ['audit', 'viewer', 200, async () => ['GET', '/audit']],
  ['list limits', 'viewer', 200, async () => ['GET', '/limits']],
  ['show limits of a device', 'viewer', 200, async () => ['GET', `/devices/${await aDevice()}/limits`]],
  [
    'set a limit',
    'operator',
    200,
    async () => ['POST', '/limits', { setting: 'device', windows: '7:1', type: 'pump' }],
  ],
  ['unset a limit', 'operator', 200, async () => ['DELETE', '/limits?setting=device&type=pump']],
  ['add a device', 'operator', 201, async () => ['POST', '/devices', { devices: [{ device: `new-${++numbered}` }] }]],
  ['import devices', 'operator', 200, async () => ['POST', '/devices/import', `device\nimported-${++numbered}\n`]],
  [
    'name a device',
    'operator',
    200,
    async () => ['POST', `/devices/${await aDevice()}/aliases`, { aliases: [`alias-${++numbered}`] }],
  ],
  ['disable a device', 'operator', 200, async () => ['POST', `/devices/${await aDevice()}/disable`]],
  ['enable a device', 'operator', 200, async () => ['POST', `/devices/${await aDevice()}/enable`]],
  ['add a credential', 'operator', 201, async () => ['POST', '/credentials', { device: await aDevice() }]],
  ['rotate a token', 'operator', 201, async () => ['POST', '/credentials/rotate', { device: await aDevice() }]],
  ['revoke a credential', 'operator', 200, async () => ['POST', '/credentials/revoke', { id: await aCredential() }]],
  ['remove a device', 'admin', 200, async () => ['DELETE', `/devices/${await aDevice()}`]],
  ['add a tenant', 'admin', 201, async () => ['POST', '/tenants', { tenant: `acme-${++numbered}` }]],
  ['remove a tenant', 'admin', 200, async () => ['DELETE', `/tenants/${await aTenant()}`]],
  ['list admin tokens', 'admin', 200, async () => ['GET', '/admin-tokens']],
  [
    'add an admin token',
    'admin',
    201,
    async () => ['POST', '/admin-tokens', { name: `t-${++numbered}`, role: 'viewer' }],
  ],
  [
    'revoke an admin token',
    'admin',
    200,
    async () => {
      const { body } = await ask('POST', '/admin-tokens', ownToken, { name: `t-${++numbered}`, role: 'viewer' })
      return ['POST', `/admin-tokens/${body.id}/revoke`]
    },
  ],
  ['list dead letters', 'viewer', 200, async () => ['GET', '/dead-letters?code=malformed&since=1h&topic=devices/*']],
  ['count dead letters', 'viewer', 200, async () => ['GET', '/dead-letters/codes']],
  ['show a dead letter', 'operator', 200, async () => ['GET', `/dead-letters/${await aLetter()}`]],
  ['replay dead letters', 'operator', 200, async () => ['POST', '/dead-letters/replay', { ids: [await aLetter()] }]],
  ['show what was last read', 'viewer', 200, async () => ['GET', '/latest']],
  ['show the status of devices', 'viewer', 200, async () => ['GET', '/device-status']],
  ['read readings', 'viewer', 200, async () => ['GET', `/devices/${await aReading()}/readings?metric=t`]],
  ['read a series', 'viewer', 200, async () => ['GET', `/devices/${await aReading()}/series?metric=t&step=10m`]],
  ['export readings', 'viewer', 200, async () => ['GET', '/export?format=ndjson&limit=1']],
  ['list events', 'viewer', 200, async () => ['GET', '/events?kind=lost']],
  ['export events', 'viewer', 200, async () => ['GET', '/events/export?format=ndjson&limit=1']],
  ['list device types', 'viewer', 200, async () => ['GET', '/device-types']],
  ['show a device type', 'viewer', 200, async () => ['GET', `/device-types/${await aType()}`]],
  ['set a device type', 'operator', 200, async () => ['POST', '/device-types/pump', { mode: 'off' }]],
  [
    'assign a device type',
    'operator',
    200,
    async () => ['POST', '/device-types/pump/assign', { devices: [await aDevice()] }],
  ],
  ['remove a device type', 'admin', 200, async () => ['DELETE', `/device-types/${await aType()}`]],
  ['purge dead letters', 'admin', 200, async () => ['POST', '/dead-letters/purge', { ids: [await aLetter()] }]],
]

const roles: AdminRole[] = ['viewer', 'operator', 'admin']

describe('each role and each action', () => {
  const cases = actions.flatMap((action) => roles.map((role) => ({ action, role, name: `${role}: ${action[0]}` })))
  it.each(cases)('$name', async ({ action: [, least, status, request], role }) => {
    const [method, path, body] = await request()
    const answer = await ask(method, path, tokens[role], body)
    if (roles.indexOf(role) >= roles.indexOf(least)) return expect(answer).toMatchObject({ status })
    expect(answer).toMatchObject({ status: 403, body: { code: 'not_allowed', status: 403 } })
    expect(answer.body.detail).toContain(least)
    expect(answer.headers.get('content-type')).toBe('application/problem+json')
  })

  it.each(actions)('without a token: %s', async (_what, _least, _status, request) => {
    const [method, path, body] = await request()
    expect(await ask(method, path, undefined, body)).toMatchObject({ status: 401, body: { code: 'not_authenticated' } })
  })
})

describe('logins', () => {
  it('knows the own token as an admin, under its name', async () => {
    expect((await ask('GET', '/whoami', ownToken)).body).toEqual({ name: 'config', role: 'admin' })
    expect((await ask('GET', '/whoami', tokens.viewer)).body).toEqual({ name: 'a-viewer', role: 'viewer' })
  })

  it('forgets a revoked or expired token within two seconds', async () => {
    const { id, token } = (await ask('POST', '/admin-tokens', ownToken, { name: 'leaving', role: 'admin' })).body
    expect((await ask('GET', '/whoami', token)).status).toBe(200)
    expect((await ask('POST', `/admin-tokens/${id}/revoke`, ownToken)).body).toEqual({ revoked: true })
    await expect.poll(async () => (await ask('GET', '/whoami', token)).status, { timeout: 2000 }).toBe(401)
    const expired = newAdminToken()
    await client.query(
      `INSERT INTO admin_token (name, role, secret_hash, expires_at) VALUES ('old', 'admin', $1, now() - interval '1 s')`,
      [hashOf(expired)],
    )
    expect((await ask('GET', '/whoami', expired)).status).toBe(401)
  })

  it('refuses what is no token of this API, and waits longer each time, but never for a right one', async () => {
    const device = await aDevice()
    const at = await aListener() // where nobody has failed before
    const { token: deviceToken } = (await ask('POST', '/credentials', ownToken, { device })).body
    const wrong = [
      deviceToken,
      `${ownToken}x`,
      ownToken.slice(0, -1),
      newAdminToken(),
      'x'.repeat(2000),
      ...Array.from({ length: 5 }, newAdminToken),
    ]
    const delays: number[] = []
    for (const token of wrong) {
      const startMs = performance.now()
      const answer = await ask('GET', '/whoami', token, undefined, at)
      delays.push(performance.now() - startMs)
      expect(answer).toMatchObject({ status: 401, body: { code: 'not_authenticated' } })
      expect(answer.headers.get('www-authenticate')).toMatch(/^Bearer/)
    }
    expect(delays[9], 'the tenth').toBeGreaterThan(900)
    const startMs = performance.now()
    expect((await ask('GET', '/whoami', tokens.viewer, undefined, at)).status).toBe(200)
    expect(performance.now() - startMs).toBeLessThan(350)
  })
})

describe('requests', () => {
  it.each([
    ['unknown key of a body', 'POST', '/tenants', { tenant: 'acme', colour: 'red' }, 'colour'],
    ['unknown key inside', 'POST', '/devices', { devices: [{ device: 'x', typ: 'y' }] }, 'typ'],
    ['unknown key of a query', 'GET', '/devices?tennant=acme', undefined, 'tennant'],
    ['query where none belongs', 'GET', '/tenants?all=1', undefined, 'all'],
    ['number for a text', 'POST', '/tenants', { tenant: 7 }, 'string'],
    ['text for an array', 'POST', '/devices', { devices: 'pump-1' }, 'array'],
    ['query twice', 'GET', '/devices?tenant=a&tenant=b', undefined, 'string'],
    ['limit too large', 'GET', '/devices?limit=1001', undefined, 'limit'],
    ['no body', 'POST', '/tenants', undefined, 'body'],
    ['__proto__', 'POST', '/tenants', JSON.parse('{"tenant":"acme","__proto__":{"x":1}}'), ''],
    ['device id with +', 'POST', '/devices', { devices: [{ device: 'a+b' }] }, 'holds + or #'],
    ['device id with U+0000', 'GET', '/devices/a%00b', undefined, 'control character'],
    ['lone surrogate', 'POST', '/devices', { devices: [{ device: 'a\ud800' }] }, 'UTF-8'],
    ['no id of a credential', 'POST', '/credentials/revoke', { id: 'x' }, 'id'],
    ['neither id nor device', 'POST', '/credentials/rotate', {}, 'name either'],
    ['expiry that is over', 'POST', '/credentials', { device: 'pump-1', expires: '2020-01-01' }, 'over already'],
    [
      'password with a token',
      'POST',
      '/credentials',
      { device: 'pump-1', password: 'long enough' },
      'a token needs nothing',
    ],
    ['bad percent encoding', 'GET', '/devices/%zz', undefined, ''],
    ['reserved name', 'POST', '/admin-tokens', { name: 'config', role: 'admin' }, 'no table'],
    ['the default tenant', 'DELETE', '/tenants/default', undefined, 'default'],
    ['no limit of ours', 'POST', '/limits', { setting: 'devices', windows: '1:1' }, 'There are: device,'],
    ['no windows', 'POST', '/limits', { setting: 'device', windows: '1:0' }, '100:1,2000:60'],
    ['device and type', 'POST', '/limits', { setting: 'device', windows: '1:1', device: 'a', type: 'b' }, 'not both'],
    ['a tenant limit of a type', 'DELETE', '/limits?setting=tenantBytes&type=pump', undefined, 'whole tenant'],
    ['a limit of all', 'POST', '/limits', { setting: 'allBytes', windows: '1:1' }, 'in the configuration alone'],
    ['nine windows', 'POST', '/limits', { setting: 'device', windows: Array(9).fill('1:1').join() }, 'at most 8'],
  ])('400: %s', async (_what, method, path, body, word) => {
    const answer = await ask(method, path, ownToken, body)
    expect(answer).toMatchObject({ status: 400, body: { code: 'invalid', status: 400 } })
    expect(answer.body.detail).toContain(word)
    expect(answer.headers.get('content-type')).toBe('application/problem+json')
  })

  it('answers 404, 409, 413 and 415 as problems', async () => {
    const device = await aDevice()
    const again = { devices: [{ device }] }
    expect(await ask('GET', '/nothing', ownToken)).toMatchObject({ status: 404, body: { code: 'not_found' } })
    expect(await ask('GET', '/devices/nobody', ownToken)).toMatchObject({ status: 404, body: { code: 'not_found' } })
    expect(await ask('POST', '/devices', ownToken, { ...again, tenant: 'nobodys' })).toMatchObject({ status: 404 })
    expect(await ask('POST', '/devices', ownToken, again)).toMatchObject({ status: 409, body: { code: 'conflict' } })
    const large = `device\n${'x'.repeat(1_100_000)}`
    expect(await ask('POST', '/devices/import', ownToken, large)).toMatchObject({
      status: 413,
      body: { code: 'too_large' },
    })
    expect(await ask('POST', '/tenants', ownToken, 'tenant')).toMatchObject({ status: 400 })
    const xml = await fetch(`${base}/tenants`, {
      method: 'POST',
      headers: { authorization: `Bearer ${ownToken}`, 'content-type': 'application/xml' },
      body: '<tenant/>',
    })
    expect(xml.status).toBe(415)
  })

  it.each([
    ['nested deep', `${'['.repeat(500_000)}${']'.repeat(500_000)}`],
    ['nested deep where an array belongs', `{"devices":${'['.repeat(400_000)}${']'.repeat(400_000)}}`],
    ['many keys', `{${Array.from({ length: 60_000 }, (_, index) => `"k${index}":1`).join()}}`],
    ['the prototype', '{"tenant":"acme","__proto__":{"role":"admin"}}'],
    ['the constructor', '{"tenant":"acme","constructor":{"prototype":{"role":"admin"}}}'],
    ['cut off', '{"tenant":"ac'],
    ['nothing', ''],
    ['null', 'null'],
    ['bytes that are no UTF-8', Buffer.from('7b2274656e616e74223a22ff227d', 'hex')],
  ])('a hostile body is 400 and harms nothing: %s', async (_what, body) => {
    for (const path of ['/tenants', '/devices', '/credentials', '/admin-tokens']) {
      const headers = { authorization: `Bearer ${ownToken}`, 'content-type': 'application/json' }
      const answer = await fetch(`${base}${path}`, { method: 'POST', headers, body: new Uint8Array(Buffer.from(body)) })
      expect(answer.status, path).toBe(400)
      expect(await answer.json()).toMatchObject({ code: 'invalid' })
    }
    expect((await ask('GET', '/whoami', ownToken)).status).toBe(200)
  })

  it('lets nobody keep, frame or guess at answers, and answers no other origin', async () => {
    for (const path of ['/whoami', '/nothing', '/openapi.json']) {
      const { headers } = await ask('GET', path, path === '/whoami' ? ownToken : undefined)
      expect(headers.get('cache-control'), path).toBe('no-store')
      expect(headers.get('x-content-type-options')).toBe('nosniff')
      expect(headers.get('content-security-policy')).toContain("default-src 'none'")
      expect(headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/)
      expect(headers.get('access-control-allow-origin')).toBeNull()
    }
  })

  it('describes every route to whoever reaches it, and nothing else', async () => {
    const { body } = await ask('GET', '/openapi.json', undefined)
    const described = Object.entries(body.paths as Record<string, object>).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    )
    expect(described).toContain('GET /admin/v1/devices/{device}')
    expect(described).toContain('POST /admin/v1/devices/import')
    expect(described).toHaveLength(actions.length)
  })
})

describe('what is done', () => {
  it('keeps a row of audit for each change, with who made it, and no secret', async () => {
    const device = await aDevice()
    await ask('POST', `/devices/${device}/disable`, tokens.operator)
    await ask('POST', `/devices/${device}/disable`, tokens.operator) // so already
    await ask('POST', `/devices/${device}/enable`, tokens.admin)
    const rotated = (await ask('POST', '/credentials/rotate', tokens.operator, { device })).body
    await ask('POST', '/credentials/revoke', tokens.operator, { device })
    await ask('DELETE', `/devices/${device}`, tokens.admin)
    expect(await auditOf(device)).toEqual([
      { actor: 'admin:config', action: 'device.add' },
      { actor: 'admin:a-operator', action: 'device.disable' },
      { actor: 'admin:a-admin', action: 'device.enable' },
      { actor: 'admin:a-operator', action: 'credential.rotate' },
      { actor: 'admin:a-operator', action: 'credential.revoke' },
      { actor: 'admin:a-admin', action: 'device.remove' },
    ])
    const { body } = await ask('GET', `/audit?subject=${device}&limit=2`, tokens.viewer)
    expect(body.audit.map(({ action }: { action: string }) => action)).toEqual(['device.remove', 'credential.revoke'])
    const older = await ask('GET', `/audit?subject=${device}&before=${body.next}&limit=100`, tokens.viewer)
    expect(older.body).toMatchObject({ audit: [{ action: 'credential.rotate' }, {}, {}, {}], next: null })
    const { rows } = await client.query('SELECT audit::text AS text FROM audit')
    expect(rows.map(({ text }) => text).join()).not.toContain(rotated.token)
  })

  it('leaves no row of audit for what failed', async () => {
    const device = await aDevice()
    await ask('POST', '/devices', ownToken, { devices: [{ device: `${device}-b` }, { device }] })
    expect(await auditOf(`${device}-b`)).toEqual([])
  })

  it('shows credentials and never what would open anything', async () => {
    const device = await aDevice()
    await ask('POST', '/credentials', ownToken, { device, kind: 'password', password: 'correct horse' })
    await ask('POST', '/credentials', ownToken, {
      device,
      kind: 'certificate',
      fingerprint: 'ab'.repeat(32),
      expires: '90d',
    })
    const { body } = await ask('GET', `/devices/${device}`, tokens.viewer)
    expect(body).toMatchObject({ device, tenant: 'default', status: 'enabled' })
    expect(body.credentials).toMatchObject([
      { kind: 'token' },
      { kind: 'password' },
      { kind: 'certificate', live: true },
    ])
    expect(Object.keys(body.credentials[0]).sort().join()).toBe(
      'created,device,expires,id,kind,lastUsed,live,name,pattern,revoked,role,tenant',
    )
    const { rows } = await client.query('SELECT password_hash FROM credential WHERE password_hash IS NOT NULL')
    expect(rows[0].password_hash).toMatch(/^\$scrypt\$ln=15,r=8,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$/)
  })

  it('pages through devices, by prefix and status', async () => {
    await ask('POST', '/devices', ownToken, { devices: ['a', 'b', 'c/d'].map((end) => ({ device: `page/${end}` })) })
    await ask('POST', `/devices/${encodeURIComponent('page/b')}/disable`, ownToken)
    const first = (await ask('GET', '/devices?prefix=page/&limit=2', tokens.viewer)).body
    expect(first).toMatchObject({ devices: [{ device: 'page/a' }, { device: 'page/b' }], next: 'page/b' })
    const second = (await ask('GET', `/devices?prefix=page/&limit=2&after=${first.next}`, tokens.viewer)).body
    expect(second).toMatchObject({ devices: [{ device: 'page/c/d' }], next: null })
    expect((await ask('GET', '/devices?status=disabled&prefix=page/', tokens.viewer)).body.devices).toHaveLength(1)
  })

  it('takes names with a meaning in JavaScript as names', async () => {
    const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty']
    const made = await ask('POST', '/devices', ownToken, { devices: names.map((device) => ({ device })) })
    expect(made.body.devices.map(({ device }: { device: string }) => device)).toEqual(names)
    for (const device of names) {
      expect((await ask('GET', `/devices/${device}`, tokens.viewer)).body).toMatchObject({ device, status: 'enabled' })
      expect((await ask('POST', `/devices/${device}/disable`, tokens.operator)).body).toEqual({ changed: true })
    }
    expect((await ask('GET', '/devices?__proto__=x', tokens.viewer)).status).toBe(400)
  })

  it('imports a CSV and says what became of each line', async () => {
    const csv = 'device,site\nimp-1,north\nimp-2,\na#b,x\n'
    const first = (await ask('POST', '/devices/import', tokens.operator, csv)).body
    expect(first).toMatchObject({ skipped: 0, renewed: [], rejected: [{ line: 4, device: 'a#b' }] })
    expect(first.added).toMatchObject([{ device: 'imp-1', token: expect.stringMatching(/^fb_/) }, { device: 'imp-2' }])
    expect((await ask('POST', '/devices/import', tokens.operator, csv)).body).toMatchObject({ added: [], skipped: 2 })
    const renewed = await ask('POST', '/devices/import?renew=true&overlap=1h', tokens.operator, csv)
    expect(renewed.body).toMatchObject({ added: [], renewed: [{ device: 'imp-1' }, { device: 'imp-2' }], skipped: 0 })
    const { body } = await ask('GET', '/credentials?device=imp-1', tokens.viewer)
    expect(body.credentials).toMatchObject([{ expires: expect.any(String) }, { expires: null }])
  })
})

it('is 503 while the database is away', async () => {
  await using listener = await startAdminListener(
    { host: '127.0.0.1', port: 0 },
    { databaseUrl: 'postgres://nobody@127.0.0.1:1/none', ownToken: { name: 'up', token: ownToken }, log: silentLog },
  )
  const answer = await fetch(`http://127.0.0.1:${listener.port}/admin/v1/tenants`, {
    headers: { authorization: `Bearer ${ownToken}` },
  })
  expect(answer.status).toBe(503)
  expect(await answer.json()).toMatchObject({ code: 'database_unavailable' })
})
