import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { hashPassword } from '#gateway/auth/password-hash.ts'
import { TestAuthority } from '#platform/testing/certificates.ts'
import { freePort } from '#test/servers/free-port.ts'
import { migratedDatabase } from '#test/servers/fresh.ts'
import { BridgeProcess } from '#test/stack/process.ts'
import { type Doors, forbidden, goThrough, refusal, type Shown, type Transport, transports } from './doors.ts'

const cleanUp = new AsyncDisposableStack()
let doors: Doors
let database: pg.Pool
let dir: string
let deviceCa: TestAuthority
let otherCa: TestAuthority
let signJwt: (device: string, audience: string, expires?: string) => Promise<string>
let value = 0

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'fleetbridge-doors-'))
  cleanUp.defer(() => rmSync(dir, { recursive: true, force: true }))
  const serverCa = cleanUp.use(new TestAuthority('server CA'))
  deviceCa = cleanUp.use(new TestAuthority('device CA'))
  otherCa = cleanUp.use(new TestAuthority('device CA'))
  const server = serverCa.server()
  const { privateKey, publicKey } = await generateKeyPair('ES256')
  const keysFile = join(dir, 'keys.json')
  writeFileSync(keysFile, JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: 'k1', alg: 'ES256' }] }))
  signJwt = (device, audience, expires = '5m') =>
    new SignJWT({})
      .setProtectedHeader({ alg: 'ES256', kid: 'k1' })
      .setSubject(device)
      .setIssuer('https://issuer.test')
      .setAudience(audience)
      .setIssuedAt()
      .setExpirationTime(expires)
      .sign(privateKey)
  const own = cleanUp.use(await migratedDatabase())
  doors = {
    mqtt: await freePort(),
    mqtts: await freePort(),
    http: await freePort(),
    https: await freePort(),
    ca: serverCa.own.cert,
  }
  const up = cleanUp.use(
    new BridgeProcess(['up'], {
      DATABASE_URL: own.url,
      BRIDGE_DATA_DIR: join(dir, 'data'),
      BRIDGE_MQTT_PORT: String(doors.mqtt),
      BRIDGE_MQTT_TLS_PORT: String(doors.mqtts),
      BRIDGE_HTTP_PORT: String(doors.http),
      BRIDGE_HTTP_TLS_PORT: String(doors.https),
      BRIDGE_OPS_PORT: '0',
      BRIDGE_ADMIN_PORT: '0',
      BRIDGE_TLS_CERT_FILE: server.certFile,
      BRIDGE_TLS_KEY_FILE: server.keyFile,
      BRIDGE_AUTH_CLIENT_CAS: JSON.stringify([{ tenant: 'default', file: deviceCa.own.certFile }]),
      BRIDGE_AUTH_JWT: JSON.stringify([
        { tenant: 'default', issuer: 'https://issuer.test', audience: 'fleet', algorithms: ['ES256'], keysFile },
      ]),
      BRIDGE_AUTH_FAILURES: 'none', // wrong logins are this test's business, and shall not wait
    }),
  )
  await up.until('it waits for messages', () => up.output.includes('waiting for the first message'))
  database = new pg.Pool({ connectionString: own.url, max: 2 })
  cleanUp.defer(() => database.end())
}, 60_000)
afterAll(() => cleanUp.disposeAsync())

interface Person {
  readonly device: string
  readonly token: string
}

/** A device with a token, straight into the tables. */
async function register(
  device: string,
  more: { fleet?: boolean; operator?: boolean; pattern?: string; expires?: string; revoked?: string } = {},
): Promise<Person> {
  const token = `fb_${randomBytes(32).toString('base64url')}`
  await database.query(
    `WITH d AS (INSERT INTO device (tenant_id, external_id) VALUES (1, $1) ON CONFLICT (tenant_id, external_id) DO UPDATE SET status = 'enabled' RETURNING id)
     INSERT INTO credential (device_id, secret_hash, fleet, operator, pattern, expires_at, revoked_at) SELECT id, $2, $3, $4, $5, $6, $7 FROM d`,
    [
      device,
      createHash('sha256').update(token).digest(),
      more.fleet ?? false,
      more.operator ?? false,
      more.pattern ?? null,
      more.expires ?? null,
      more.revoked ?? null,
    ],
  )
  return { device, token }
}

async function addPassword(device: string, password: string): Promise<void> {
  await database.query(
    `INSERT INTO credential (device_id, kind, password_hash) SELECT id, 'password', $2 FROM device WHERE external_id = $1`,
    [device, await hashPassword(password)],
  )
}

/** What one credential may do, as often as the registry needs to hear of it. */
async function expectOutcome(transport: Transport, shown: Shown, expected: string): Promise<void> {
  await vi.waitFor(async () => expect(await goThrough(doors, transport, shown, ++value)).toBe(expected), {
    timeout: 4000,
    interval: 50,
  })
}

async function expectStored(transport: Transport, shown: Shown, device: string): Promise<void> {
  await expectOutcome(transport, shown, 'stored')
  const { rowCount } = await database.query('SELECT FROM telemetry WHERE device = $1 AND value = $2', [device, value])
  expect(rowCount, 'an acknowledgement is a row').toBe(1)
}

const nameOf = (kind: string, transport: Transport) => `${kind}-${transport.replaceAll(/\W/g, '').toLowerCase()}`

describe.each(transports)('%s', (transport) => {
  it('token: right, and with the user name of another', async () => {
    const { device, token } = await register(nameOf('token', transport))
    await expectStored(transport, { username: device, password: token }, device)
    await expectOutcome(transport, { username: 'somebody-else', password: token }, refusal(transport, false))
  })

  it('chosen password: right, and wrong', async () => {
    const { device } = await register(nameOf('password', transport))
    await addPassword(device, 'correct horse battery staple')
    await expectStored(transport, { username: device, password: 'correct horse battery staple' }, device)
    await expectOutcome(transport, { username: device, password: 'correct horse' }, refusal(transport, false))
  })

  it('JWT: right, for another audience, and expired', async () => {
    const { device } = await register(nameOf('jwt', transport))
    await expectStored(transport, { username: device, password: await signJwt(device, 'fleet') }, device)
    const other = await signJwt(device, 'another')
    await expectOutcome(transport, { username: device, password: other }, refusal(transport, false))
    const outcome = await goThrough(
      doors,
      transport,
      { username: device, password: await signJwt(device, 'fleet', '-5m') },
      0,
    )
    expect([refusal(transport, true), refusal(transport, false)]).toContain(outcome)
  })

  it('client certificate: right, and of another authority', async () => {
    const { device } = await register(nameOf('certificate', transport))
    await expectStored(transport, { certificate: deviceCa.client(device) }, device)
    const outcome = await goThrough(doors, transport, { certificate: otherCa.client(device) }, 0)
    expect([refusal(transport, false), 'closed']).toContain(outcome)
  })

  it('fleet credential: for a device of its pattern, and for another', async () => {
    const { device, token } = await register(nameOf('gw', transport), { fleet: true, pattern: 'kid-*' })
    const kid = nameOf('kid', transport)
    await expectStored(transport, { username: device, password: token, device: kid }, kid)
    await expectOutcome(transport, { username: device, password: token, device: 'not-a-kid' }, forbidden(transport))
  })

  it('operator: subscribes, and never publishes', async () => {
    const { device, token } = await register(nameOf('operator', transport), { operator: true })
    if (transport !== 'HTTP')
      await expectOutcome(transport, { username: device, password: token, subscribes: true }, 'subscribed')
    await expectOutcome(transport, { username: device, password: token }, forbidden(transport))
  })

  it('nobody, and somebody with a wrong token', async () => {
    const { device, token } = await register(nameOf('nobody', transport))
    await expectStored(transport, { username: device, password: token }, device)
    await expectOutcome(transport, {}, refusal(transport, false))
    await expectOutcome(transport, { username: device, password: `${token}x` }, refusal(transport, false))
  })

  it('expired and revoked: refused, while another credential of the same device is good', async () => {
    const device = nameOf('ended', transport)
    const expired = await register(device, { expires: '2020-01-01' })
    const revoked = await register(device, { revoked: '2020-01-01' })
    const live = await register(device)
    await expectStored(transport, { username: device, password: live.token }, device)
    await expectOutcome(transport, { username: device, password: expired.token }, refusal(transport, true))
    await expectOutcome(transport, { username: device, password: revoked.token }, refusal(transport, true))
  })

  it('disabled: refused, and good again once enabled', async () => {
    const { device, token } = await register(nameOf('disabled', transport))
    const setStatus = (status: string) =>
      database.query('UPDATE device SET status = $2 WHERE external_id = $1', [device, status])
    await setStatus('disabled')
    await expectOutcome(transport, { username: device, password: token }, refusal(transport, true))
    await setStatus('enabled')
    await expectStored(transport, { username: device, password: token }, device)
  })
})
