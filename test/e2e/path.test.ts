import { gzipSync } from 'node:zlib'
import mqtt, { type MqttClient } from 'mqtt'
import { afterAll, beforeAll, describe, expect, inject, it, vi } from 'vitest'
import { Stack } from '#test/stack/stack.ts'

let stack: Stack

beforeAll(async () => {
  stack = await Stack.start({ kafkaBrokers: inject('kafkaBrokers'), redisUrl: inject('redisUrl') })
})
afterAll(() => stack?.[Symbol.asyncDispose]())

function connect(device: string, token: string, protocolVersion: 4 | 5 = 4): Promise<MqttClient> {
  return mqtt.connectAsync({
    host: '127.0.0.1',
    port: stack.mqttPort,
    clientId: device,
    username: device,
    password: token,
    protocolVersion,
    reconnectPeriod: 0,
  })
}

function post(
  path: string,
  token: string,
  body: string | Buffer,
  headers: Record<string, string> = {},
): Promise<Response> {
  return fetch(`http://127.0.0.1:${stack.httpPort}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : new Uint8Array(body),
  })
}

const within = (check: () => Promise<void>, timeout = 1000) => vi.waitFor(check, { timeout, interval: 20 })

describe('a message becomes a row within a second', () => {
  it.each([4, 5] as const)('MQTT protocol level %d', async (version) => {
    const device = `mqtt-${version}`
    const client = await connect(device, await stack.addDevice(device), version)
    await client.publishAsync(
      'devices/me/telemetry',
      '{"values":{"temperature":{"value":21.5,"unit":"°C"},"on":true,"mode":"auto"}}',
      { qos: 1 },
    )
    await within(async () => {
      const rows = await stack.rows(`device = '${device}'`)
      expect(rows.map(({ metric, value, text }) => [metric, value ?? text])).toEqual([
        ['mode', 'auto'],
        ['on', null],
        ['temperature', 21.5],
      ])
    })
    await client.endAsync()
  })

  it('MQTT QoS 0 and 2', async () => {
    const client = await connect('mqtt-qos', await stack.addDevice('mqtt-qos'), 5)
    await client.publishAsync('devices/mqtt-qos/telemetry', '{"ts":1790000000000,"values":{"q":0}}', { qos: 0 })
    await client.publishAsync('devices/mqtt-qos/telemetry', '{"ts":1790000000001,"values":{"q":2}}', { qos: 2 })
    await within(async () =>
      expect((await stack.rows(`device = 'mqtt-qos'`)).map(({ value }) => value)).toEqual([0, 2]),
    )
    await client.endAsync()
  })

  it('HTTP, plain and gzip, and the answer names the request', async () => {
    const token = await stack.addDevice('http/1')
    const plain = await post('/v1/telemetry', token, '{"values":{"t":1}}')
    expect(plain.status).toBe(202)
    expect(await plain.json()).toMatchObject({ accepted: 1, id: expect.any(String) })
    const zipped = await post('/v1/devices/http%2F1/telemetry', token, gzipSync('{"values":{"t":2}}'), {
      'content-encoding': 'gzip',
    })
    expect(zipped.status).toBe(202)
    await within(async () => expect((await stack.rows(`device = 'http/1'`)).map(({ value }) => value)).toEqual([1, 2]))
  })

  it("the earlier engine's form, with a fleet token and devices never seen before", async () => {
    const token = await stack.addFleet('load-tester')
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        post(
          '/telemetry/ingest',
          token,
          JSON.stringify({
            device_id: `engine-${index}`,
            reading_value: index,
            reading_type: 'temperature',
            unit: 'Celsius',
            battery_level: 98,
          }),
        ),
      ),
    )
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 202))
    await within(async () => {
      const { rows } = await stack.database.query(
        `SELECT device, value, unit FROM telemetry WHERE device LIKE 'engine-%' AND metric = 'temperature' ORDER BY value`,
      )
      expect(rows).toEqual(
        Array.from({ length: 20 }, (_, index) => ({ device: `engine-${index}`, value: index, unit: 'Cel' })),
      )
    })
  })

  it('the ThingsBoard doors', async () => {
    const token = await stack.addDevice('board-1')
    const answer = await fetch(`http://127.0.0.1:${stack.httpPort}/api/v1/${token}/telemetry`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"ts":1790000000000,"values":{"t":1}}',
    })
    expect([answer.status, await answer.text()]).toEqual([200, ''])
    const client = await connect('board-1', token)
    await client.publishAsync('v1/devices/me/telemetry', '{"t":2}', { qos: 1 })
    await within(async () => expect((await stack.rows(`device = 'board-1'`)).map(({ value }) => value)).toEqual([1, 2]))
    await client.endAsync()
  })
})

describe('many messages in one body', () => {
  it('an array: the bad one is parked with its bytes, its neighbours are rows', async () => {
    const token = await stack.addDevice('array-1')
    const answer = await post(
      '/v1/telemetry',
      token,
      '[{"ts":1790000000000,"values":{"n":1}}, {"values":{"n":1e400}}, {"ts":1790000000002,"values":{"n":3}}]',
    )
    expect(answer.status).toBe(207)
    const { items } = (await answer.json()) as {
      items: { index: number; status: number; code?: string; deadLetter?: string }[]
    }
    expect(items.map(({ status }) => status)).toEqual([202, 400, 202])
    expect(items[1]).toMatchObject({ index: 1, code: 'bad_value' })
    await within(async () => {
      expect((await stack.rows(`device = 'array-1'`)).map(({ value }) => value)).toEqual([1, 3])
      const { rows } = await stack.database.query(
        'SELECT payload, code, acknowledged, topic FROM dead_letter WHERE id = $1',
        [items[1]?.deadLetter],
      )
      expect(rows).toEqual([
        {
          payload: Buffer.from('{"values":{"n":1e400}}'),
          code: 'bad_value',
          acknowledged: false,
          topic: '/v1/telemetry',
        },
      ])
    })
  })

  it('NDJSON, a line each', async () => {
    const token = await stack.addDevice('lines-1')
    const answer = await post(
      '/v1/telemetry',
      token,
      '{"ts":1790000000000,"values":{"n":1}}\r\n\n{"ts":1790000000001,"values":{"n":2}}\n',
      {
        'content-type': 'application/x-ndjson',
      },
    )
    expect([answer.status, await answer.json()]).toEqual([202, expect.objectContaining({ accepted: 2 })])
    await within(async () => expect(await stack.rows(`device = 'lines-1'`)).toHaveLength(2))
  })

  it('fleet bodies by HTTP and MQTT', async () => {
    const token = await stack.addFleet('gw-fleet')
    const body =
      '{"child-a":[{"ts":1790000000000,"values":{"n":1}},{"ts":1790000000001,"values":{"n":2}}],"child-b":[{"n":3}]}'
    expect((await post('/v1/telemetry', token, body)).status).toBe(202)
    const client = await connect('gw-fleet', token, 5)
    await client.publishAsync('gateways/me/telemetry', body.replaceAll('child-', 'kid-').replaceAll('17900', '17901'), {
      qos: 1,
    })
    await within(async () => {
      expect((await stack.rows(`device LIKE 'child-%'`)).map(({ device, value }) => `${device} ${value}`)).toEqual([
        'child-a 1',
        'child-a 2',
        'child-b 3',
      ])
      expect((await stack.rows(`device LIKE 'kid-%'`)).map(({ device, value }) => `${device} ${value}`)).toEqual([
        'kid-a 1',
        'kid-a 2',
        'kid-b 3',
      ])
    })
    await client.endAsync()
  })
})

describe('refusals are visible', () => {
  it('wrong and missing credentials', async () => {
    await stack.addDevice('lock-1')
    expect((await post('/v1/telemetry', 'fb_wrong', '{"n":1}')).status).toBe(401)
    await expect(connect('lock-1', 'fb_wrong', 5)).rejects.toMatchObject({ code: 0x86 })
    await expect(connect('lock-1', 'fb_wrong', 4)).rejects.toMatchObject({ code: 4 })
  })

  it("another device's id, in payload and topic", async () => {
    const token = await stack.addDevice('own-1')
    const answer = await post('/v1/telemetry', token, '{"device_id":"own-2","n":1}')
    expect([answer.status, await answer.json()]).toEqual([403, expect.objectContaining({ code: 'not_allowed' })])
    expect((await post('/v1/devices/own-2/telemetry', token, '{"n":1}')).status).toBe(403)
    const client = await connect('own-1', token, 5)
    await expect(client.publishAsync('devices/own-2/telemetry', '{"n":1}', { qos: 1 })).rejects.toMatchObject({
      code: 0x87,
    })
    await expect(
      client.publishAsync('devices/me/telemetry', '{"device":"own-2","n":1}', { qos: 1 }),
    ).rejects.toMatchObject({ code: 0x87 })
    await client.endAsync()
  })

  it('told on the errors topic', async () => {
    const token = await stack.addDevice('errors-1')
    const client = await connect('errors-1', token, 5)
    const told = new Promise<string>((resolve) =>
      client.once('message', (_topic, payload) => resolve(payload.toString())),
    )
    await client.subscribeAsync('devices/me/errors')
    await expect(client.publishAsync('devices/me/telemetry', '{broken', { qos: 1 })).rejects.toMatchObject({
      code: 0x99,
    })
    expect(JSON.parse(await told)).toMatchObject({ code: 'malformed' })
    await client.endAsync()
  })
})

it("the gateway's admin API takes tokens of the table, and what it disables is refused within two seconds", async () => {
  const admin = await stack.addAdmin('path-test')
  const ask = async (path: string, init: RequestInit = {}) => {
    const headers = { authorization: `Bearer ${admin}`, 'content-type': 'application/json' }
    const answer = await fetch(`${await stack.gatewayAdmin()}/admin/v1${path}`, { headers, ...init })
    return (await answer.json()) as { devices?: { token: string }[]; changed?: boolean }
  }
  const made = await ask('/devices', { method: 'POST', body: '{"devices":[{"device":"by-api"}]}' })
  const token = made.devices?.[0]?.token ?? ''
  const status = async () => (await post('/v1/telemetry', token, '{"values":{"n":1}}')).status
  await within(async () => expect(await status()).toBe(202))
  const headers = { authorization: `Bearer ${admin}` }
  expect(await ask('/devices/by-api/disable', { method: 'POST', headers })).toEqual({ changed: true })
  await within(async () => expect(await status()).toBe(401), 2000)
})

it('order per device under load: rows have the order in which each device sent', async () => {
  const seed = Date.now() % 100_000
  console.info(`order under load: seed ${seed}`)
  const devices = await stack.addDevices(`order-${seed}-`, 8)
  let state = seed
  const random = (below: number) => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    return state % below
  }
  const perDevice = 150
  await Promise.all(
    [...devices].map(async ([device, token], which) => {
      const client = await connect(device, token, which % 2 === 0 ? 5 : 4)
      const acknowledged: Promise<unknown>[] = []
      for (let n = 0; n < perDevice; n++) {
        // Without a time of their own: arrival order is the only order they have.
        acknowledged.push(
          client.publishAsync('devices/me/telemetry', JSON.stringify({ values: { n, pad: 'x'.repeat(random(300)) } }), {
            qos: 1,
          }),
        )
        if (random(10) === 0) await new Promise((resolve) => setTimeout(resolve, random(8)))
      }
      await Promise.all(acknowledged)
      await client.endAsync()
    }),
  )
  await within(async () => {
    for (const device of devices.keys()) {
      const rows = await stack.rows(`device = '${device}' AND metric = 'n'`)
      expect(rows.map(({ value }) => value)).toEqual(Array.from({ length: perDevice }, (_, n) => n))
    }
  }, 5000)
})

it('the accounts balance: accepted = stored + duplicate + parked, and the durable counts agree', async () => {
  const token = await stack.addDevice('accounts-1')
  for (const body of ['{"ts":1790000000000,"values":{"n":1}}', '{"ts":1790000000000,"values":{"n":1}}', '{}'])
    await post('/v1/telemetry', token, body)
  await within(async () => {
    const accepted = await stack.metric(stack.gatewayOps, 'fleetbridge_messages_total', 'result="accepted"')
    const stored = await stack.metric(stack.workerOps, 'fleetbridge_stored_messages_total', 'result="stored"')
    const duplicate = await stack.metric(stack.workerOps, 'fleetbridge_stored_messages_total', 'result="duplicate"')
    const parked = await stack.metric(stack.workerOps, 'fleetbridge_stored_messages_total', 'result="parked"')
    expect(duplicate).toBeGreaterThanOrEqual(1)
    expect(accepted).toBe(stored + duplicate + parked)
    const { rows } = await stack.database.query<{ stored: string; duplicate: string; parked: string }>(
      'SELECT sum(stored) AS stored, sum(duplicate) AS duplicate, sum(parked) AS parked FROM ingest_offset',
    )
    expect(rows[0]).toEqual({ stored: String(stored), duplicate: String(duplicate), parked: String(parked) })
    expect(await stack.metric(stack.gatewayOps, 'fleetbridge_in_hand_messages')).toBe(0)
  }, 5000)
})
