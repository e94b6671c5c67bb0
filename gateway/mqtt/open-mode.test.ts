import mqtt, { type IClientOptions, type MqttClient } from 'mqtt'
import type { IPublishPacket } from 'mqtt-packet'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { RawClient } from './testing/raw-client.ts'
import { startTestSource, type TestSource } from './testing/source.ts'

let test: TestSource
const raw: RawClient[] = []
const real: MqttClient[] = []

beforeEach(async () => {
  test = await startTestSource({ open: true, openDeny: ['secret/#'], maxRetainedBytes: 1000 })
})
afterEach(async () => {
  for (const client of raw.splice(0)) client.destroy()
  for (const client of real.splice(0)) client.end(true)
  await test[Symbol.asyncDispose]()
})

/** Without a word of who it is. What comes right behind the CONNACK is kept. */
async function connect(clientId: string, more = {}, version: 4 | 5 = 5): Promise<RawClient> {
  const client = await RawClient.open(test.port, version)
  raw.push(client)
  client.send({
    cmd: 'connect',
    protocolId: 'MQTT',
    protocolVersion: version,
    clean: true,
    clientId,
    keepalive: 60,
    ...more,
  })
  expect(await client.next('connack')).toMatchObject(version === 5 ? { reasonCode: 0 } : { returnCode: 0 })
  return client
}

function connectReal(clientId: string, more: IClientOptions = {}): Promise<MqttClient> {
  const client = mqtt.connect({ host: '127.0.0.1', port: test.port, clientId, reconnectPeriod: 0, ...more })
  real.push(client)
  return new Promise((resolve, reject) => {
    client.once('connect', () => resolve(client))
    client.once('error', reject)
  })
}

async function subscribe(client: RawClient, topic: string, more = {}, properties = {}): Promise<number[]> {
  client.send({ cmd: 'subscribe', messageId: 9, subscriptions: [{ topic, qos: 2, ...more }], properties })
  const suback = await client.next('suback')
  client.packets.splice(client.packets.indexOf(suback), 1)
  return 'granted' in suback ? (suback.granted as number[]) : []
}

const published = (client: RawClient) =>
  client.packets.filter((packet): packet is IPublishPacket => packet.cmd === 'publish')
const settled = () => new Promise((resolve) => setTimeout(resolve, 60))

describe('npm mqtt', () => {
  it.each([4, 5] as const)('level %d: every topic goes from client to client at QoS 0, 1 and 2', async (version) => {
    const [from, to] = [
      await connectReal('from', { protocolVersion: version }),
      await connectReal('to', { protocolVersion: version, username: 'any', password: 'thing' }),
    ]
    const got: string[] = []
    to.on('message', (topic, payload, { qos }) => got.push(`${topic} ${payload} ${qos}`))
    await to.subscribeAsync('a/#', { qos: 2 })
    const names = ['a/b', 'a/__proto__', 'a/constructor', 'a//x', 'a/toString']
    for (const [n, name] of names.entries())
      for (const qos of [0, 1, 2] as const) await from.publishAsync(name, String(n), { qos })
    const expected = names.flatMap((name, n) => [0, 1, 2].map((qos) => `${name} ${n} ${qos}`))
    await expect.poll(() => got).toEqual(expected)
    expect(test.pipeline.pushed).toEqual([])
  })

  it('telemetry topics go down the path, of the device that the client id names or of any other', async () => {
    const client = await connectReal('esp32')
    await client.publishAsync('devices/me/telemetry', '{"a":1}', { qos: 1 })
    await client.publishAsync('devices/pump-9/telemetry', '{"a":1}', { qos: 1 })
    const [own, other] = test.pipeline.pushed.map(({ ingress }) => ingress)
    expect(own).toMatchObject({ topic: 'devices/me/telemetry', principal: { tenant: 'default', device: 'esp32' } })
    expect(other?.principal.allows('pump-9')).toBe(true)
    const unnameable = await connectReal('$x')
    await unnameable.publishAsync('devices/me/telemetry', '{"a":1}', { qos: 1 })
    expect(test.pipeline.pushed.at(-1)?.ingress.principal.device).toBe('anonymous')
  })

  it('a credential that is known keeps its own tenant, and one that is disabled stays out', async () => {
    const own = await connectReal('x', { username: 'pump-1@other', password: 't-pump-1@other' })
    await own.publishAsync('devices/me/telemetry', '1', { qos: 1 })
    expect(test.pipeline.pushed[0]?.ingress.principal).toMatchObject({ tenant: 'other', device: 'pump-1' })
    await expect(connectReal('y', { username: 'x', password: 't-disabled' })).rejects.toThrow()
  })
})

describe('what stays denied', () => {
  it.each([4, 5] as const)('level %d: is refused with 0x80, and is not part of #', async (version) => {
    const client = await connect('one', {}, version)
    expect(await subscribe(client, 'secret/x')).toEqual([0x80])
    expect(await subscribe(client, 'secret/#')).toEqual([0x80])
    expect(await subscribe(client, '#')).toEqual([2])
    const other = await connect('two', {}, version)
    other.publish(1, 'x', { topic: 'secret/x' })
    if (version === 5) expect(await other.answered(1)).toEqual([[1, 0x87]])
    else await other.closed()
    await settled()
    // The notice of the refusal is nobody's secret.
    expect(published(client).map(({ topic }) => topic)).toEqual(['devices/two/errors'])
  })
})

describe('retained messages', () => {
  it('are sent on subscribing, with their properties and what is left of their time, and end with an empty one', async () => {
    const from = await connect('from')
    const properties = { userProperties: { ['__proto__']: 'x', a: ['1', '2'] }, contentType: 'text/plain' }
    from.publish(1, 'v', { topic: 'r/1', retain: true, properties: { ...properties, messageExpiryInterval: 100 } })
    await from.answered(1)
    const to = await connect('to')
    await subscribe(to, 'r/+')
    await expect.poll(() => published(to).length).toBe(1)
    expect(published(to)[0]).toMatchObject({
      topic: 'r/1',
      retain: true,
      qos: 1,
      properties: { contentType: 'text/plain' },
    })
    expect(Object.entries(published(to)[0]?.properties?.userProperties ?? {})).toContainEqual(['a', ['1', '2']])
    expect(published(to)[0]?.properties?.messageExpiryInterval).toBeLessThanOrEqual(100)
    from.publish(2, '', { topic: 'r/1', retain: true })
    await from.answered(2)
    const late = await connect('late')
    await subscribe(late, 'r/+')
    await settled()
    expect(published(late)).toEqual([])
  })

  it('of one device have a bound: MQTT 5 hears 0x97, 3.1.1 has its message delivered and not kept', async () => {
    const five = await connect('five')
    five.publish(1, 'x'.repeat(900), { topic: 'r/1', retain: true })
    five.publish(2, 'x'.repeat(200), { topic: 'r/2', retain: true })
    five.publish(3, 'x'.repeat(900), { topic: 'r/1', retain: true })
    expect(await five.answered(3)).toEqual([
      [1, 0],
      [2, 0x97],
      [3, 0],
    ])
    const four = await connect('four', {}, 4)
    await subscribe(four, 'r/#')
    four.publish(1, 'x'.repeat(1500), { topic: 'r/3', retain: true })
    await four.answered(1)
    await expect.poll(() => published(four).map(({ topic }) => topic)).toEqual(['r/1', 'r/3'])
    const late = await connect('late')
    await subscribe(late, 'r/#')
    await expect.poll(() => published(late).map(({ topic }) => topic)).toEqual(['r/1'])
  })
})

describe('what a client asks for', () => {
  it('its Receive Maximum: no more is under way, and the rest follows its acknowledgements in order', async () => {
    const to = await connect('to', { properties: { receiveMaximum: 2 } })
    const from = await connect('from')
    await subscribe(to, 'x')
    for (let n = 1; n <= 5; n++) from.publish(n, String(n), { topic: 'x', qos: n % 2 === 0 ? 2 : 1 })
    await from.answered(5)
    await settled()
    const payloads = () => published(to).map(({ payload }) => payload.toString())
    expect(payloads()).toEqual(['1', '2'])
    const [first, second] = published(to) as [IPublishPacket, IPublishPacket]
    to.send({ cmd: 'puback', messageId: first.messageId as number })
    await expect.poll(payloads).toEqual(['1', '2', '3'])
    to.send({ cmd: 'pubrec', messageId: second.messageId as number })
    await to.next('pubrel')
    await settled()
    expect(payloads()).toEqual(['1', '2', '3'])
    to.send({ cmd: 'pubcomp', messageId: second.messageId as number })
    await expect.poll(payloads).toEqual(['1', '2', '3', '4'])
  })

  it('its Maximum Packet Size: what is larger is dropped, counted, and in nobody’s way', async () => {
    const to = await connect('to', { properties: { maximumPacketSize: 60, receiveMaximum: 1 } })
    const from = await connect('from')
    await subscribe(to, 'x')
    from.publish(1, 'x'.repeat(100), { topic: 'x' })
    from.publish(2, 'x'.repeat(100), { topic: 'x', qos: 2 })
    from.publish(3, 'small', { topic: 'x' })
    await expect.poll(() => published(to).map(({ payload }) => payload.toString())).toEqual(['small'])
    expect(await test.count('fleetbridge_mqtt_deliveries_dropped_total', { reason: 'too_large' })).toBe(2)
  })

  it('topic aliases, each way', async () => {
    const to = await connect('to', { properties: { topicAliasMaximum: 1 } })
    const from = await connect('from')
    await subscribe(to, 'x/#')
    from.publish(1, '1', { topic: 'x/1', properties: { topicAlias: 3 } })
    from.publish(2, '2', { topic: '', properties: { topicAlias: 3 } })
    from.publish(3, '3', { topic: 'x/2' })
    await expect
      .poll(() => published(to).map(({ topic, properties }) => [topic, properties?.topicAlias]))
      .toEqual([
        ['x/1', 1],
        ['', 1],
        ['x/2', undefined],
      ])
  })

  it('all identifiers of the subscriptions that cover a message, the highest QoS of them, and no message of its own', async () => {
    const client = await connect('one')
    await subscribe(client, 'x/#', { qos: 0 }, { subscriptionIdentifier: 2 })
    await subscribe(client, 'x/1', { qos: 1 }, { subscriptionIdentifier: 300 })
    const other = await connect('other')
    await subscribe(other, 'x/#', { nl: true, rap: true })
    other.publish(1, '1', { topic: 'x/1', qos: 2, retain: true })
    await expect.poll(() => published(client).length).toBe(1)
    expect(new Set([published(client)[0]?.properties?.subscriptionIdentifier].flat())).toEqual(new Set([2, 300]))
    expect(published(client)[0]?.qos).toBeLessThanOrEqual(1)
    await settled()
    expect(published(other)).toEqual([])
  })

  it('a session: messages wait for it, until their time is over', async () => {
    const session = { clean: false, properties: { sessionExpiryInterval: 60 } }
    const to = await connect('to', session)
    await subscribe(to, 'x')
    to.destroy()
    await to.closed()
    const from = await connect('from')
    from.publish(1, 'old', { topic: 'x', properties: { messageExpiryInterval: 1 } })
    from.publish(2, 'kept', { topic: 'x', properties: { messageExpiryInterval: 100 } })
    from.publish(3, 'none', { topic: 'x', qos: 0 })
    await from.answered(2)
    await new Promise((resolve) => setTimeout(resolve, 1100))
    const back = await connect('to', { clean: false }) // without an expiry: the session goes on for this once
    await expect.poll(() => published(back).map(({ payload }) => payload.toString())).toEqual(['kept'])
    expect(published(back)[0]?.properties?.messageExpiryInterval).toBeLessThan(100)
  })
})

it('QoS 0 behind a retained QoS 1 does not make it a duplicate', async () => {
  const to = await connect('to')
  const from = await connect('from')
  await subscribe(to, '#')
  for (let n = 0; n < 50; n++) {
    from.publish(2 * n + 1, `${n} a`, { topic: 'x', retain: true })
    from.publish(2 * n + 2, `${n} b`, { topic: 'x' })
    from.publish(0, `${n} c`, { topic: 'x', qos: 0 })
  }
  const answer = setInterval(() => {
    for (const packet of to.packets.splice(0))
      if (packet.cmd === 'publish') {
        got.push(packet.payload.toString())
        if (packet.qos > 0) to.send({ cmd: 'puback', messageId: packet.messageId as number })
      }
  }, 2)
  const got: string[] = []
  await expect.poll(() => got.length, { timeout: 3000 }).toBe(150)
  clearInterval(answer)
  expect(new Set(got).size).toBe(150)
})

it('server keep alive: sixty seconds, which only MQTT 5 is told', async () => {
  const client = await RawClient.open(test.port, 5)
  raw.push(client)
  client.send({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 5, clean: true, clientId: 'k', keepalive: 120 })
  expect(await client.next('connack')).toMatchObject({ properties: { serverKeepAlive: 60 } })
})

it.each([4, 5] as const)(
  'level %d: a session gets a retained message at QoS 2, and what no session has room for',
  async (version) => {
    const from = await connect('from')
    from.publish(1, 'kept', { topic: 'r', retain: true, qos: 2 })
    await from.answered(1)
    const to = await connect(
      'to',
      { clean: false, ...(version === 5 && { properties: { sessionExpiryInterval: 60 } }) },
      version,
    )
    await subscribe(to, '#')
    const got: string[] = []
    const answer = () => {
      for (const packet of to.packets.splice(0))
        if (packet.cmd === 'publish') {
          got.push(packet.payload.toString().slice(0, 4))
          if (packet.qos > 0)
            to.send({ cmd: packet.qos === 2 ? 'pubrec' : 'puback', messageId: packet.messageId as number })
        } else if (packet.cmd === 'pubrel') to.send({ cmd: 'pubcomp', messageId: packet.messageId as number })
      return got
    }
    await expect.poll(answer).toEqual(['kept'])
    for (let n = 0; n < 2; n++) from.publish(2 + n, `${n}   ${'x'.repeat(600_000)}`, { topic: 'x' })
    await from.answered(3)
    await expect.poll(answer).toEqual(['kept', '0   ', '1   '])
    expect(await test.count('fleetbridge_mqtt_deliveries_dropped_total', { reason: 'session_full' })).toBeGreaterThan(0)
    from.publish(9, 'end', { topic: 'x', qos: 2 })
    await expect.poll(answer).toContain('end')
  },
)
