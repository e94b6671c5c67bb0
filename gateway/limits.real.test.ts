import pg from 'pg'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { loadConfig } from '#platform/config.ts'
import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import { migratedDatabase } from '#test/servers/fresh.ts'
import { startAdminListener } from './admin/admin-listener.ts'
import { addDevices } from './admin/registry/devices.ts'
import { listLimits, setLimit, unsetLimit } from './admin/registry/limits.ts'
import { newAdminToken } from './admin/registry/tokens.ts'
import { startProxy } from './auth/registry.fixture.ts'
import { type Gateway, startGateway } from './gateway.ts'

const by = { actor: 'cli:test', makesTenants: true }
/** In which an override has to be felt everywhere. */
const feltMs = 2000
const opened = new AsyncDisposableStack()
let databaseUrl: string
let client: pg.Client
let gateways: Gateway[]

beforeAll(async () => {
  databaseUrl = opened.use(await migratedDatabase()).url
  client = new pg.Client(databaseUrl)
  await client.connect()
  opened.defer(() => client.end())
  gateways = [await aGateway(databaseUrl), await aGateway(databaseUrl)]
})
afterAll(() => opened.disposeAsync())

/** With an event log that takes everything, and limits in Redis. */
async function aGateway(url: string, environment: NodeJS.ProcessEnv = {}): Promise<Gateway> {
  const config = loadConfig({
    BRIDGE_MQTT_PORT: '0',
    BRIDGE_HTTP_PORT: '0',
    BRIDGE_LIMITS_DEVICE_BYTES: '100000:1',
    REDIS_URL: inject('redisUrl'),
    ...environment,
  })
  const direct = { write: () => Promise.resolve(), ping: () => Promise.resolve() }
  return opened.use(
    await startGateway(config, { databaseUrl: url, direct, log: silentLog, metrics: createMetrics('test') }),
  )
}

let numbered = 0

/** A device of a tenant of its own, known to all gateways. */
async function aDevice(type = 'pump'): Promise<{ tenant: string; device: string; token: string }> {
  const tenant = `t-${++numbered}-${Date.now() % 1e6}`
  const [made] = await addDevices(client, by, tenant, [{ device: 'pump-1', type }])
  await Promise.all(gateways.map((gateway) => gateway.credentialsRefreshed()))
  return { tenant, device: 'pump-1', token: made?.token as string }
}

async function post({ httpPort }: Gateway, token: string) {
  const answer = await fetch(`http://127.0.0.1:${httpPort}/v1/telemetry`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: '{"values":{"t":1}}',
  })
  return { status: answer.status, headers: answer.headers, body: await answer.json() }
}

const policyOf = async (gateway: Gateway, token: string) =>
  (await post(gateway, token)).headers.get('ratelimit-policy') ?? ''

/** How long all gateways take until they say this of the device's limits. */
async function felt(token: string, policy: string): Promise<number> {
  const startMs = performance.now()
  await Promise.all(
    gateways.map((gateway) =>
      expect.poll(() => policyOf(gateway, token), { timeout: 10_000, interval: 20 }).toContain(policy),
    ),
  )
  return performance.now() - startMs
}

describe('an override is felt within 2 s on every gateway', () => {
  it('of the tenant, then the type, then the device, and back', async () => {
    const { tenant, device, token } = await aDevice()
    expect(await felt(token, '"device";q=1000;qu="messages";w=1')).toBeLessThan(feltMs)
    const steps: [() => Promise<boolean>, string][] = [
      [() => setLimit(client, by, { tenant }, { setting: 'device', windows: '500:1' }), '"device";q=500;'],
      [() => setLimit(client, by, { tenant, type: 'pump' }, { setting: 'device', windows: '400:1' }), 'q=400;'],
      [
        () => setLimit(client, by, { tenant, device }, { setting: 'device', windows: '300:1,9000:60' }),
        '"device-1";q=300;qu="messages";w=1, "device-60";q=9000;',
      ],
      [() => unsetLimit(client, by, { tenant, device }, 'device'), '"device";q=400;'],
      [() => unsetLimit(client, by, { tenant, type: 'pump' }, 'device'), '"device";q=500;'],
      [() => unsetLimit(client, by, { tenant }, 'device'), '"device";q=1000;'],
    ]
    const tookMs: number[] = []
    for (const [change, policy] of steps) {
      expect(await change()).toBe(true)
      tookMs.push(await felt(token, policy))
    }
    console.log(`overrides were felt on ${gateways.length} gateways after ${tookMs.map(Math.round).join(', ')} ms`)
    expect(Math.max(...tookMs)).toBeLessThan(feltMs)
  })

  it('also behind a pooler, which swallows notifications, and when a device changes its type', async () => {
    const { tenant, device, token } = await aDevice('oven')
    await client.query('DROP TRIGGER limit_override_notify ON limit_override')
    await setLimit(client, by, { tenant, type: 'pump' }, { setting: 'device', windows: '44:1' })
    await setLimit(client, by, { tenant, type: 'oven' }, { setting: 'device', windows: '55:1' })
    expect(await felt(token, 'q=55;')).toBeLessThan(feltMs)
    await client.query('UPDATE device SET type = $1 WHERE external_id = $2', ['pump', device])
    expect(await felt(token, 'q=44;')).toBeLessThan(feltMs)
  })

  it('what it allows is what passes, over both gateways together', async () => {
    const { tenant, device, token } = await aDevice()
    await setLimit(client, by, { tenant, device }, { setting: 'device', windows: '10:3600' })
    await Promise.all(gateways.map((gateway) => gateway.credentialsRefreshed()))
    const answers = await Promise.all(Array.from({ length: 40 }, (_, n) => post(gateways[n % 2] as Gateway, token)))
    expect(answers.filter(({ status }) => status === 202).length).toBe(10)
    const refused = answers.find(({ status }) => status === 429)
    expect(refused?.body).toMatchObject({ code: 'rate_limited', limit: 'device', waitMs: expect.any(Number) })
    expect(Number(refused?.headers.get('retry-after'))).toBeGreaterThan(100)
    await setLimit(client, by, { tenant, device }, { setting: 'device', windows: 'none' })
    await Promise.all(gateways.map((gateway) => gateway.credentialsRefreshed()))
    expect((await post(gateways[0] as Gateway, token)).status).toBe(202)
  })
})

it('a limit of the whole installation is one for all tenants and gateways', async () => {
  const windows = `${10 + (Date.now() % 7)}:${3600 + (Date.now() % 1000)}` // nobody else's bucket in the tests' Redis
  const limited = [await aGateway(databaseUrl, { BRIDGE_LIMITS_ALL: windows })]
  limited.push(await aGateway(databaseUrl, { BRIDGE_LIMITS_ALL: windows }))
  const senders = [await aDevice(), await aDevice()]
  await Promise.all(limited.map((gateway) => gateway.credentialsRefreshed()))
  const answers = []
  for (let n = 0; n < 40; n++)
    answers.push(await post(limited[n % 2] as Gateway, senders[(n >> 1) % 2]?.token as string))
  const passed = answers.filter(({ status }) => status === 202).length
  expect(passed).toBeLessThanOrEqual(Number.parseInt(windows, 10) + 1)
  expect(passed).toBeGreaterThan(0)
  expect(answers.at(-1)).toMatchObject({ status: 429, body: { limit: 'all' } })
})

it('Postgres away changes nothing', async () => {
  const { tenant, device, token } = await aDevice()
  await setLimit(client, by, { tenant, device }, { setting: 'device', windows: '77:1' })
  await using proxy = await startProxy(databaseUrl)
  const gateway = await aGateway(proxy.url)
  expect(await policyOf(gateway, token)).toContain('q=77;')
  proxy.cut()
  await setLimit(client, by, { tenant, device }, { setting: 'device', windows: '78:1' })
  expect(await policyOf(gateway, token)).toContain('q=77;')
  await proxy.mend()
  await expect.poll(() => policyOf(gateway, token), { timeout: 10_000 }).toContain('q=78;')
})

it('shows what holds, where it was set, and what is left', async () => {
  const { tenant, device, token } = await aDevice()
  await setLimit(client, by, { tenant }, { setting: 'tenant', windows: '1000:3600' })
  await setLimit(client, by, { tenant, type: 'pump' }, { setting: 'deviceReadings', windows: 'none' })
  await setLimit(client, by, { tenant, device }, { setting: 'device', windows: '20:3600,200:36000' })
  await Promise.all(gateways.map((gateway) => gateway.credentialsRefreshed()))
  const gateway = gateways[0] as Gateway
  for (let n = 0; n < 5; n++) expect((await post(gateway, token)).status).toBe(202)
  expect((await post(gateway, token)).headers.get('ratelimit')).toMatch(
    /^"device-3600";r=14;t=\d{4}, "device-36000";r=194;t=/,
  )
  const ownToken = newAdminToken()
  await using admin = await startAdminListener(
    { host: '127.0.0.1', port: 0 },
    { databaseUrl, ownToken: { name: 'config', token: ownToken }, limits: gateway.limits, log: silentLog },
  )
  const answer = await fetch(`http://127.0.0.1:${admin.port}/admin/v1/devices/${device}/limits?tenant=${tenant}`, {
    headers: { authorization: `Bearer ${ownToken}` },
  })
  expect(answer.status).toBe(200)
  const { limits } = (await answer.json()) as { limits: Awaited<ReturnType<Gateway['limits']['show']>> }
  expect(limits.map(({ limit }) => limit)).not.toContain('fleet')
  expect(limits).toEqual(
    expect.arrayContaining([
      expect.objectContaining({
        limit: 'device',
        from: 'device',
        windows: '20:3600,200:36000',
        levels: [
          { burst: 20, seconds: 3600, left: 14, resetMs: expect.any(Number) },
          { burst: 200, seconds: 36_000, left: 194, resetMs: expect.any(Number) },
        ],
      }),
      expect.objectContaining({ limit: 'device_readings', from: 'type', windows: 'none', levels: [] }),
      expect.objectContaining({ limit: 'tenant', from: 'tenant', levels: [expect.objectContaining({ left: 994 })] }),
      expect.objectContaining({ limit: 'device_bytes', from: 'configuration', windows: '100000:1' }),
    ]),
  )
  // Another gateway does not see what this one has leased and not spent.
  const [seen] = (await (gateways[1] as Gateway).limits.show(tenant, device, false))[0]?.levels ?? []
  expect(seen?.left).toBeLessThanOrEqual(14)
  expect(seen?.left).toBeGreaterThanOrEqual(4)
})

it('each change is in the audit, once; what is so already is none', async () => {
  const { tenant, device } = await aDevice()
  const limit = { setting: 'device', windows: '5:1' }
  expect(await setLimit(client, by, { tenant, device }, limit)).toBe(true)
  expect(await setLimit(client, by, { tenant, device }, limit)).toBe(false)
  expect(await setLimit(client, by, { tenant, type: 'pump' }, { ...limit, windows: '6:1' })).toBe(true)
  expect(await listLimits(client, tenant, 10)).toMatchObject([
    { device: null, type: 'pump', setting: 'device', windows: '6:1' },
    { device, type: null, setting: 'device', windows: '5:1' },
  ])
  expect(await unsetLimit(client, by, { tenant, device }, 'device')).toBe(true)
  expect(await unsetLimit(client, by, { tenant, device }, 'device')).toBe(false)
  const { rows } = await client.query(
    `SELECT action, subject, details FROM audit WHERE tenant = $1 AND action LIKE 'limit.%' ORDER BY id`,
    [tenant],
  )
  expect(rows).toEqual([
    { action: 'limit.set', subject: device, details: limit },
    { action: 'limit.set', subject: 'pump', details: { setting: 'device', windows: '6:1', type: 'pump' } },
    { action: 'limit.unset', subject: device, details: { setting: 'device' } },
  ])
  const nobody = { tenant: 'nobodys-tenant' }
  await expect(setLimit(client, by, nobody, limit)).rejects.toThrow(/no tenant nobodys-tenant/)
  await expect(setLimit(client, by, { tenant, device: 'nobody' }, limit)).rejects.toThrow(/no device "nobody"/)
})
