import mqtt, { type MqttClient } from 'mqtt'
import { afterAll, beforeAll, expect, inject, it, vi } from 'vitest'
import { freePort } from '#test/servers/free-port.ts'
import { BridgeProcess } from '#test/stack/process.ts'
import { Stack } from '#test/stack/stack.ts'

/** What the registry promises: a change is felt on every gateway within this. */
const promisedMs = 2000

const cleanUp = new AsyncDisposableStack()
let stack: Stack
let ports: { mqtt: number; http: number }[]

beforeAll(async () => {
  stack = cleanUp.use(await Stack.start({ kafkaBrokers: inject('kafkaBrokers') }))
  const [mqttPort, httpPort, ops] = [await freePort(), await freePort(), await freePort()]
  const second = cleanUp.use(
    new BridgeProcess(['gateway'], {
      ...stack.env,
      BRIDGE_MQTT_PORT: String(mqttPort),
      BRIDGE_HTTP_PORT: String(httpPort),
      BRIDGE_OPS_PORT: String(ops),
      BRIDGE_ADMIN_PORT: '0',
    }),
  )
  await second.until('/readyz is 200', async () => {
    const answer = await fetch(`http://127.0.0.1:${ops}/readyz`).catch(() => undefined)
    return answer?.ok === true
  })
  ports = [
    { mqtt: stack.mqttPort, http: stack.httpPort },
    { mqtt: mqttPort, http: httpPort },
  ]
}, 60_000)
afterAll(() => cleanUp.disposeAsync())

function connect(port: number, device: string, token: string, version: 4 | 5, number: number): Promise<MqttClient> {
  return mqtt.connectAsync({
    host: '127.0.0.1',
    port,
    clientId: `${device}-${version}-${number}`,
    username: device,
    password: token,
    protocolVersion: version,
    reconnectPeriod: 0,
  })
}

async function statusOf(port: number, token: string): Promise<number> {
  const answer = await fetch(`http://127.0.0.1:${port}/v1/telemetry`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: `{"ts":${Date.now()},"values":{"n":1}}`,
  })
  await answer.arrayBuffer()
  return answer.status
}

const changes = [
  [
    'a revoked credential',
    `UPDATE credential SET revoked_at = now() WHERE device_id = (SELECT id FROM device WHERE external_id = $1)`,
  ],
  [
    'an expired credential',
    `UPDATE credential SET expires_at = now() WHERE device_id = (SELECT id FROM device WHERE external_id = $1)`,
  ],
  ['a disabled device', `UPDATE device SET status = 'disabled' WHERE external_id = $1`],
  ['a removed device', `UPDATE device SET status = 'removed' WHERE external_id = $1`],
  ['a deleted credential', `DELETE FROM credential WHERE device_id = (SELECT id FROM device WHERE external_id = $1)`],
] as const

it.each(changes)('%s loses its sessions and HTTP on both gateways; a bystander keeps both', async (what, sql) => {
  const device = what.replaceAll(' ', '-')
  const token = await stack.addDevice(device)
  const bystanderToken = await stack.addDevice(`bystander-of-${device}`)
  await vi.waitFor(async () => {
    for (const { http } of ports) expect(await statusOf(http, token)).toBe(202)
  })
  const clients: MqttClient[] = []
  const bystanders: MqttClient[] = []
  const ended: Promise<unknown>[] = []
  for (const { mqtt: port } of ports)
    for (const version of [4, 5] as const) {
      const client = await connect(port, device, token, version, clients.length)
      client.on('error', () => {})
      ended.push(new Promise((resolve) => client.once('close', () => resolve(undefined))))
      clients.push(client)
      bystanders.push(await connect(port, `bystander-of-${device}`, bystanderToken, version, clients.length))
    }
  const reasons: number[] = []
  for (const client of clients) client.on('disconnect', ({ reasonCode = 0 }) => reasons.push(reasonCode))
  const changedMs = performance.now()
  await stack.database.query(sql, [device])
  await Promise.all(ended)
  const sessionsMs = performance.now() - changedMs
  await vi.waitFor(async () => {
    for (const { http } of ports) expect(await statusOf(http, token)).toBe(401)
  })
  const httpMs = performance.now() - changedMs
  console.info(
    `${what}: 4 sessions on two gateways ended after ${Math.round(sessionsMs)} ms, HTTP refused by ${Math.round(httpMs)} ms`,
  )
  expect(sessionsMs).toBeLessThan(promisedMs + 1000) // a busy machine's share
  expect(reasons).toEqual([0x87, 0x87])
  for (const bystander of bystanders) {
    await bystander.publishAsync('devices/me/telemetry', '{"values":{"n":1}}', { qos: 1 })
    await bystander.endAsync()
  }
})
