import { createHash, randomBytes } from 'node:crypto'
import mqtt, { type MqttClient } from 'mqtt'
import { afterAll, beforeAll, describe, expect, inject, it, vi } from 'vitest'
import { Stack } from '#test/stack/stack.ts'

/** Two tenants whose devices have the same names, and everything that one could reach of the other. */
const tenants = ['default', 'acme'] as const
const device = 'esp32'

let stack: Stack
const tokens = new Map<string, string>()

beforeAll(async () => {
  stack = await Stack.start({
    kafkaBrokers: inject('kafkaBrokers'),
    redisUrl: inject('redisUrl'),
    env: { BRIDGE_LIMITS_DEVICE: '20:1', BRIDGE_LIMITS_TENANT: '1000:1' },
  })
  await stack.database.query(`INSERT INTO tenant (name) VALUES ('acme')`)
  for (const tenant of tenants) tokens.set(tenant, await register(tenant))
}, 60_000)
afterAll(() => stack?.[Symbol.asyncDispose]())

async function register(tenant: string, operator = false, id = device): Promise<string> {
  const token = `fb_${randomBytes(32).toString('base64url')}`
  await stack.database.query(
    `WITH d AS (INSERT INTO device (tenant_id, external_id) SELECT id, $2 FROM tenant WHERE name = $1 RETURNING id)
     INSERT INTO credential (device_id, secret_hash, operator) SELECT id, $3, $4 FROM d`,
    [tenant, id, createHash('sha256').update(token).digest(), operator],
  )
  await new Promise((resolve) => setTimeout(resolve, 100))
  return token
}

function connect(tenant: string, username = device, token = tokens.get(tenant)): Promise<MqttClient> {
  return mqtt.connectAsync({
    host: '127.0.0.1',
    port: stack.mqttPort,
    clientId: device, // the same for both
    username,
    password: token as string,
    protocolVersion: 5,
    reconnectPeriod: 0,
  })
}

const post = (tenant: string, path: string, body: string) =>
  fetch(`http://127.0.0.1:${stack.httpPort}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${tokens.get(tenant)}`, 'content-type': 'application/json' },
    body,
  })

async function valuesOf(tenant: string, metric: string): Promise<number[]> {
  const { rows } = await stack.database.query<{ value: number }>(
    'SELECT value FROM telemetry WHERE tenant = $1 AND metric = $2 ORDER BY value',
    [tenant, metric],
  )
  return rows.map(({ value }) => value)
}

describe.each(tenants.map((own) => [own, own === 'default' ? 'acme' : 'default'] as const))(
  '%s beside %s',
  (own, other) => {
    it('the same client id and device: both stay, and each writes to its own rows', async () => {
      const [mine, theirs] = [await connect(own), await connect(other)]
      await mine.publishAsync(`devices/${device}/telemetry`, `{"values":{"${own}-mqtt":1}}`, { qos: 1 })
      await theirs.publishAsync('devices/me/telemetry', `{"values":{"${own}-mqtt":2}}`, { qos: 1 })
      await vi.waitFor(async () => {
        expect(await valuesOf(own, `${own}-mqtt`)).toEqual([1])
        expect(await valuesOf(other, `${own}-mqtt`)).toEqual([2])
      })
      expect([mine.connected, theirs.connected]).toEqual([true, true])
      await Promise.all([mine.endAsync(), theirs.endAsync()])
    })

    it('a token is of its tenant alone, whatever the user name says', async () => {
      await expect(connect(own, `${device}@${other}`)).rejects.toMatchObject({ code: 0x86 })
      const client = await connect(own, `${device}@${own}`)
      await client.endAsync()
    })

    it('topics that name the other tenant are not allowed, nor heard', async () => {
      const [mine, theirs] = [await connect(own), await connect(other)]
      const heard: string[] = []
      mine.on('message', (_topic, payload) => heard.push(payload.toString()))
      for (const filter of [`devices/${device}/#`, 'devices/me/#']) await mine.subscribeAsync(filter)
      for (const filter of ['#', '+/#', `${other}/#`, `${other}/devices/${device}/#`, '$SYS/#', `devices/+/errors`]) {
        const granted = await mine
          .subscribeAsync(filter)
          .catch((error: { packet?: { granted?: number[] } }) => error.packet?.granted)
        expect(granted, filter).toEqual([0x87])
      }
      for (const topic of [`${other}/devices/${device}/telemetry`, `${other}/${device}`])
        await expect(mine.publishAsync(topic, '{"n":1}', { qos: 1 })).rejects.toMatchObject({ code: 0x87 })
      // What the other one is told of its own mistakes stays with it.
      await theirs.subscribeAsync('devices/me/errors')
      const told = new Promise((resolve) => theirs.once('message', resolve))
      await theirs.publishAsync('devices/me/telemetry', '{broken', { qos: 1 }).catch(() => {})
      await told
      expect(heard.filter((text) => !text.includes('not_allowed'))).toEqual([]) // its own refusals it hears
      await Promise.all([mine.endAsync(), theirs.endAsync()])
    })

    it('HTTP: the path, the query and the payload cannot name the other tenant', async () => {
      const paths = [
        `/v1/devices/${encodeURIComponent(`${other}/${device}`)}/telemetry`,
        `/v1/devices/${device}@${other}/telemetry`,
      ]
      for (const path of paths) expect((await post(own, path, '{"n":1}')).status, path).toBe(403)
      const answer = await post(
        own,
        `/v1/telemetry?tenant=${other}`,
        `{"tenant":"${other}","values":{"${own}-http":3}}`,
      )
      expect(answer.status).toBe(202)
      await vi.waitFor(async () => expect(await valuesOf(own, `${own}-http`)).toEqual([3]))
      expect(await valuesOf(other, `${own}-http`)).toEqual([])
    })

    it('an operator sees its own tenant, and nothing of the other', async () => {
      const operator = await connect(own, `watcher-of-${own}`, await register(own, true, `watcher-of-${own}`))
      const heard: string[] = []
      operator.on('message', (_topic, payload) => heard.push(payload.toString()))
      await operator.subscribeAsync('devices/#')
      const [mine, theirs] = [await connect(own), await connect(other)]
      await theirs.publishAsync('devices/me/telemetry', '{"values":{"of":"them"}}', { qos: 1 })
      await mine.publishAsync('devices/me/telemetry', '{"values":{"of":"us"}}', { qos: 1 })
      await vi.waitFor(() => expect(heard).toContain('{"values":{"of":"us"}}'))
      expect(heard).not.toContain('{"values":{"of":"them"}}')
      await Promise.all([operator.endAsync(), mine.endAsync(), theirs.endAsync()])
    })

    it('one that is over its limit leaves the other its own', async () => {
      const flood = await Promise.all(
        Array.from({ length: 200 }, (_, n) =>
          post(own, '/v1/telemetry', `{"ts":${Date.now() + n},"values":{"flood":${n}}}`),
        ),
      )
      expect(flood.map(({ status }) => status)).toContain(429)
      expect((await post(other, '/v1/telemetry', '{"values":{"calm":1}}')).status).toBe(202)
      await new Promise((resolve) => setTimeout(resolve, 1100)) // the bucket fills for the next pair
    })
  },
)

it('metric names and numbers are kept apart', async () => {
  const { rows } = await stack.database.query<{ tenants: number; ids: number }>(
    `SELECT count(DISTINCT tenant_id)::int AS tenants, count(DISTINCT id)::int AS ids FROM metric WHERE name = 'default-mqtt'`,
  )
  expect(rows).toEqual([{ tenants: 2, ids: 2 }])
})
