import { readFileSync } from 'node:fs'
import { createConnection } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import mqtt from 'mqtt'
import { generate } from 'mqtt-packet'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { type KafkaServer, startKafka } from '#test/servers/kafka.ts'
import { EspClient } from '#test/stack/esp-client.ts'
import { Stack } from '#test/stack/stack.ts'

let kafka: KafkaServer
let stack: Stack

beforeAll(async () => {
  kafka = await startKafka()
  stack = await Stack.start({ kafkaBrokers: kafka.brokers })
})
afterAll(async () => {
  await stack?.[Symbol.asyncDispose]()
  await kafka?.close()
})

it('an esp-mqtt-like client that repeats each second while Kafka is stopped for 15 s: one row a message', {
  timeout: 90_000,
}, async () => {
  const timed = new EspClient(stack.mqttPort, 'esp-timed', await stack.addDevice('esp-timed'))
  const untimed = new EspClient(stack.mqttPort, 'esp-untimed', await stack.addDevice('esp-untimed'))
  const base = Date.now()
  expect(await timed.publish(`{"ts":${base},"values":{"n":0}}`)).toBe(true)
  expect(await untimed.publish('{"values":{"n":0}}')).toBe(true)
  using _frozen = kafka.pause()
  const sent: Promise<boolean>[] = []
  for (let n = 1; n <= 5; n++) {
    sent.push(timed.publish(`{"ts":${base + n},"values":{"n":${n}}}`), untimed.publish(`{"values":{"n":${n}}}`))
    await sleep(100)
  }
  await sleep(14_500)
  kafka.resume()
  expect(await Promise.all(sent)).toEqual(sent.map(() => true))
  await timed.close()
  await untimed.close()
  await vi.waitFor(async () => expect(await stack.rows(`device = 'esp-timed'`)).toHaveLength(6), { timeout: 10_000 })
  await sleep(1000) // time for rows that must not come
  expect((await stack.rows(`device = 'esp-timed'`)).map(({ value }) => value)).toEqual([0, 1, 2, 3, 4, 5])
  // Without a time only copies that joined as a DUP are known to be the same: nothing is lost, and more rows are seen, not hidden.
  const rows = await stack.rows(`device = 'esp-untimed'`)
  expect(new Set(rows.map(({ value }) => value))).toEqual(new Set([0, 1, 2, 3, 4, 5]))
  const joined = await stack.metric(stack.gatewayOps, 'fleetbridge_mqtt_dup_joined_total')
  console.info(
    `esp-mqtt: ${timed.copies + untimed.copies} copies, ${joined} joined, ${timed.connections + untimed.connections} connections, ${rows.length} rows of 6 untimed messages`,
  )
  expect(joined).toBeGreaterThan(0)
  expect(timed.copies).toBeGreaterThan(10)
})

it('100,000 messages pushed by one connection while Kafka is stopped: memory stays bounded, others are served', {
  timeout: 90_000,
}, async () => {
  const pusherToken = await stack.addDevice('pusher')
  const otherToken = await stack.addDevice('bystander')
  using _frozen = kafka.pause()
  const before = residentMb(stack.gateway.pid)
  const socket = createConnection(stack.mqttPort, '127.0.0.1')
  socket.on('error', () => {})
  socket.write(
    generate({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: 4,
      clean: true,
      clientId: 'pusher',
      keepalive: 60,
      username: 'pusher',
      password: Buffer.from(pusherToken),
    }),
  )
  await sleep(200)
  const pad = 'x'.repeat(400)
  let pushed = 0
  while (pushed < 100_000 && !socket.destroyed) {
    const chunk: Buffer[] = []
    for (let index = 0; index < 500; index++, pushed++)
      chunk.push(
        generate({
          cmd: 'publish',
          topic: 'devices/me/telemetry',
          payload: `{"values":{"n":${pushed},"pad":"${pad}"}}`,
          qos: 1,
          messageId: (pushed % 65_535) + 1,
          dup: false,
          retain: false,
        }),
      )
    socket.write(Buffer.concat(chunk))
    if (pushed % 10_000 === 0) await sleep(1)
  }
  let peak = 0
  let pings = 0
  for (let round = 0; round < 16; round++) {
    peak = Math.max(peak, residentMb(stack.gateway.pid))
    // A bystander connects and is answered while the pusher is held.
    const client = await mqtt.connectAsync({
      host: '127.0.0.1',
      port: stack.mqttPort,
      clientId: 'bystander',
      username: 'bystander',
      password: otherToken,
      reconnectPeriod: 0,
    })
    await client.subscribeAsync('devices/me/errors')
    pings++
    await client.endAsync()
    await sleep(250)
  }
  console.info(
    `pushed ${pushed} messages (${Math.round((pushed * 430) / 1e6)} MB): gateway from ${before} to at most ${peak} MB`,
  )
  expect(pings).toBe(16)
  expect(peak - before).toBeLessThan(120)
  socket.destroy()
  kafka.resume()
  const client = await mqtt.connectAsync({
    host: '127.0.0.1',
    port: stack.mqttPort,
    clientId: 'bystander',
    username: 'bystander',
    password: otherToken,
    reconnectPeriod: 200,
    clean: false,
  })
  await client.publishAsync('devices/me/telemetry', '{"ts":1790000000000,"values":{"after":1}}', { qos: 1 })
  await client.endAsync()
  await vi.waitFor(async () => expect(await stack.rows(`device = 'bystander'`)).toHaveLength(1), { timeout: 10_000 })
})

it('HTTP waits at most its hold, then says 503 and when to come back; readiness follows', {
  timeout: 60_000,
}, async () => {
  const token = await stack.addDevice('http-held')
  using _frozen = kafka.pause()
  const started = performance.now()
  const answer = await fetch(`http://127.0.0.1:${stack.httpPort}/v1/telemetry`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: '{"ts":1790000000000,"values":{"n":1}}',
  })
  expect(answer.status).toBe(503)
  expect(Number(answer.headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
  expect(performance.now() - started).toBeLessThan(12_000)
  await vi.waitFor(async () => expect((await fetch(`${stack.gatewayOps}/readyz`)).status).toBe(503), {
    timeout: 10_000,
  })
  kafka.resume()
  await vi.waitFor(async () => expect((await fetch(`${stack.gatewayOps}/readyz`)).status).toBe(200), {
    timeout: 20_000,
  })
})

function residentMb(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024)
}
