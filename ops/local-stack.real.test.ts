import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import https from 'node:https'
import { setTimeout as sleep } from 'node:timers/promises'
import mqtt from 'mqtt'
import pg from 'pg'
import { expect, inject, it, vi } from 'vitest'
import { addDevices } from '#cli/registry.ts'
import { TestAuthority } from '#platform/testing/certificates.ts'
import { freshDatabase, freshTopicPrefix } from '#test/servers/fresh.ts'
import { startLocalStack } from './local-stack.ts'

vi.setConfig({ testTimeout: 90_000 }) // five processes start, and one stops

it('the shipped HAProxy configuration carries MQTT and HTTP to both gateways, and to one when the other stops, and passes TLS through', async () => {
  using authority = new TestAuthority()
  await using database = await freshDatabase()
  await using stack = await startLocalStack({
    kafkaBrokers: inject('kafkaBrokers'),
    redisUrl: inject('redisUrl'),
    databaseUrl: database.url,
    env: { BRIDGE_KAFKA_TOPIC_PREFIX: freshTopicPrefix() },
    tls: authority.server(),
  })
  const client = new pg.Client(database.url)
  await client.connect()
  try {
    const token = (await addDevices(client, 'default', ['pump-1']))[0]?.token as string
    const send = async (value: number) => {
      const answer = await fetch(`http://127.0.0.1:${stack.httpPort}/v1/telemetry`, {
        method: 'POST',
        // A connection each: HAProxy chooses anew.
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', connection: 'close' },
        body: JSON.stringify({ values: { http: value } }),
      })
      return answer.status
    }
    await expect.poll(() => send(0), { timeout: 10_000 }).toBe(202) // gateways hear of a new device a moment later
    for (let value = 1; value <= 6; value++) expect(await send(value)).toBe(202)

    const device = await mqtt.connectAsync(`mqtt://127.0.0.1:${stack.mqttPort}`, {
      clientId: 'pump-1',
      username: 'pump-1',
      password: token,
      reconnectPeriod: 100,
    })
    await device.publishAsync('devices/me/telemetry', '{"values":{"mqtt":1}}', { qos: 1 })
    const ca = authority.own.cert
    const secure = await mqtt.connectAsync(`mqtts://127.0.0.1:${stack.mqttsPort}`, {
      ca,
      clientId: 'pump-1-tls',
      username: 'pump-1',
      password: token,
      reconnectPeriod: 0,
    })
    await secure.publishAsync('devices/me/telemetry', '{"values":{"mqtts":1}}', { qos: 1 })
    await secure.endAsync()
    expect(await postSecurely(stack.httpsPort, ca, token, '{"values":{"https":1}}')).toBe(202)

    const taken = await Promise.all(stack.opsUrls.slice(0, 2).map(acceptedMessages))
    expect(
      taken.every((count) => count > 0),
      `both gateways took some: ${taken}`,
    ).toBe(true)

    expect(await stack.gateways[0]?.stop()).toBe(0)
    for (let value = 7; value <= 12; value++) expect(await send(value)).toBe(202)
    await device.publishAsync('devices/me/telemetry', '{"values":{"mqtt":2}}', { qos: 1 })
    await device.endAsync()

    const rows = async () =>
      (
        await client.query('SELECT DISTINCT metric, value FROM telemetry WHERE metric = any($1)', [
          ['http', 'mqtt', 'mqtts', 'https'],
        ])
      ).rowCount
    for (let waited = 0; (await rows()) !== 17 && waited < 100; waited++) await sleep(100)
    expect(await rows()).toBe(17) // 0 to 12 by HTTP, 1 and 2 by MQTT, one each by TLS
  } finally {
    await client.end()
  }
})

async function acceptedMessages(ops: string): Promise<number> {
  const text = await (await fetch(`${ops}/metrics`)).text()
  return text
    .split('\n')
    .filter((line) => line.startsWith('fleetbridge_messages_total{') && line.includes('result="accepted"'))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0)
}

/** @returns the status; the certificate is verified */
async function postSecurely(port: number, ca: string, token: string, body: string): Promise<number | undefined> {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  const request = https.request({
    host: '127.0.0.1',
    port,
    ca,
    method: 'POST',
    path: '/v1/telemetry',
    headers,
    agent: false,
  })
  request.end(body)
  const [answer] = (await once(request, 'response')) as [IncomingMessage]
  answer.resume()
  return answer.statusCode
}
