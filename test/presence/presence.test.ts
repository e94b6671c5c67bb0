import { setTimeout as sleep } from 'node:timers/promises'
import mqtt, { type MqttClient } from 'mqtt'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { freePort } from '#test/servers/free-port.ts'
import { type KafkaServer, startKafka } from '#test/servers/kafka.ts'
import { type RedisServer, startRedis } from '#test/servers/redis.ts'
import { BridgeProcess } from '#test/stack/process.ts'
import { Stack } from '#test/stack/stack.ts'

// A Kafka of its own: it is stopped.
let kafka: KafkaServer
let redis: RedisServer
let stack: Stack
let second: BridgeProcess
let secondPort: number
let tokens: Map<string, string>
const clients: MqttClient[] = []

async function startSecond(): Promise<void> {
  const opsPort = await freePort()
  secondPort = await freePort()
  second = new BridgeProcess(['gateway'], {
    ...stack.env,
    BRIDGE_MQTT_PORT: String(secondPort),
    BRIDGE_HTTP_PORT: '0',
    BRIDGE_OPS_PORT: String(opsPort),
  })
  await second.until('/readyz is 200', async () => {
    const answer = await fetch(`http://127.0.0.1:${opsPort}/readyz`).catch(() => undefined)
    return answer?.ok === true
  })
}

beforeAll(async () => {
  ;[kafka, redis] = await Promise.all([startKafka(), startRedis()])
  stack = await Stack.start({
    kafkaBrokers: kafka.brokers,
    redisUrl: redis.url,
    env: { BRIDGE_PRESENCE_GATEWAY_EXPIRY_SECONDS: '4', BRIDGE_LIMITS_DEVICE: '5:1', BRIDGE_LOG_LEVEL: 'warn' },
  })
  tokens = await stack.addDevices('d-', 8)
  await startSecond()
}, 120_000)
afterAll(async () => {
  for (const client of clients) client.end(true)
  await second?.[Symbol.asyncDispose]()
  await stack?.[Symbol.asyncDispose]()
  await Promise.all([kafka?.close(), redis?.close()])
})

async function come(device: string, port: number, reconnectPeriod = 0): Promise<MqttClient> {
  const client = await mqtt.connectAsync({
    host: '127.0.0.1',
    port,
    clientId: device,
    username: device,
    password: tokens.get(device) as string,
    reconnectPeriod,
  })
  client.on('error', () => {})
  clients.push(client)
  return client
}

async function online(): Promise<string[]> {
  const { rows } = await stack.database.query<{ device: string }>(
    'SELECT device FROM device_status WHERE online ORDER BY device',
  )
  return rows.map(({ device }) => device)
}

async function kindsOf(device: string): Promise<string[]> {
  const { rows } = await stack.database.query<{ kind: string }>(
    `SELECT e.kind FROM device_event e JOIN device d ON d.id = e.device_id WHERE d.external_id = $1 ORDER BY e.time`,
    [device],
  )
  return rows.map(({ kind }) => kind)
}

const soon = { timeout: 25_000, interval: 50 }

it('a device that moves between gateways is never offline, and says goodbye in the end', {
  timeout: 60_000,
}, async () => {
  let client = await come('d-1', stack.mqttPort)
  await expect.poll(online, soon).toEqual(['d-1'])
  const seen = new Set<string>()
  let watching = true
  const watched = (async () => {
    while (watching) {
      seen.add(JSON.stringify(await online()))
      await sleep(10)
    }
  })()
  for (const port of [secondPort, stack.mqttPort, secondPort]) {
    client = await come('d-1', port)
    await sleep(1500)
  }
  watching = false
  await watched
  expect([...seen]).toEqual(['["d-1"]'])
  await client.endAsync()
  await expect.poll(online, soon).toEqual([])
  expect((await kindsOf('d-1')).filter((kind) => kind === 'connected')).toHaveLength(4)
  expect(await kindsOf('d-1')).not.toContain('lost')
})

it('kill -9 of a gateway: its devices are lost after the expiry, and those that came back elsewhere are online', {
  timeout: 90_000,
}, async () => {
  for (const device of ['d-2', 'd-3', 'd-4', 'd-5']) await come(device, secondPort)
  await come('d-6', stack.mqttPort)
  await expect.poll(online, soon).toEqual(['d-2', 'd-3', 'd-4', 'd-5', 'd-6'])
  await second.stop('SIGKILL')
  await come('d-3', stack.mqttPort)
  // The worker is killed as well, and finds the rest when it is back.
  await stack.worker.stop('SIGKILL')
  await sleep(1000)
  await stack.startWorker()
  await expect.poll(online, soon).toEqual(['d-3', 'd-6'])
  expect((await kindsOf('d-2')).at(-1)).toBe('lost')
  expect((await kindsOf('d-3')).filter((kind) => kind !== 'connected')).toEqual([])
  await startSecond()
  await come('d-4', secondPort)
  await expect.poll(online, soon).toEqual(['d-3', 'd-4', 'd-6'])
})

it('a stopped Kafka delays the word, not the devices, and nobody is lost for it', { timeout: 120_000 }, async () => {
  const before = await online()
  await kafka.kill('SIGKILL')
  const stays = await come('d-7', stack.mqttPort)
  const goes = clients.findLast((client) => client.options.clientId === 'd-6')
  goes?.end(true)
  await sleep(9000) // twice the expiry
  expect(stays.connected, 'a device comes in all the same').toBe(true)
  await kafka.restart()
  await expect
    .poll(online, { ...soon, timeout: 40_000 })
    .toEqual([...before.filter((device) => device !== 'd-6'), 'd-7'].sort())
  await sleep(6000)
  for (const device of before.filter((device) => device !== 'd-6'))
    expect((await kindsOf(device)).at(-1)).toBe('connected')
})

it('a device at its limit is told as limited', { timeout: 60_000 }, async () => {
  const client = await come('d-8', stack.mqttPort)
  for (let number = 0; number < 30; number++) client.publish('devices/me/telemetry', `{"n":${number}}`, { qos: 1 })
  await expect.poll(() => kindsOf('d-8'), soon).toContain('limited')
  const { rows } = await stack.database.query(`SELECT details FROM device_event WHERE kind = 'limited' LIMIT 1`)
  expect(rows[0].details).toMatchObject({ limit: 'device', messages: expect.any(Number), waitMs: expect.any(Number) })
})
