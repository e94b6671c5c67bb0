import mqtt from 'mqtt'
import type { IPublishPacket } from 'mqtt-packet'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { stored, type Verdict } from '../verdict.ts'
import { connectPacket, RawClient } from './testing/raw-client.ts'
import { RecordingPipeline } from './testing/recording-pipeline.ts'
import { startTestSource, type TestSource } from './testing/source.ts'

let test: TestSource
let pipeline: RecordingPipeline
const clients: RawClient[] = []
const limited: Verdict = { kind: 'refused', code: 'rate_limited', message: 'no', limit: 'device', waitMs: 1200 }

beforeEach(async () => {
  pipeline = new RecordingPipeline(() => stored)
  test = await startTestSource({}, pipeline)
})
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy()
  await test[Symbol.asyncDispose]()
})

async function connect(device = 'pump-1', version: 3 | 4 | 5 = 4, more = {}): Promise<RawClient> {
  const client = await RawClient.connect(test.port, device, version, more)
  clients.push(client)
  return client
}

async function subscribe(client: RawClient, ...filters: string[]): Promise<number[]> {
  client.packets.length = 0
  client.send({ cmd: 'subscribe', messageId: 9, subscriptions: filters.map((topic) => ({ topic, qos: 1 as const })) })
  const suback = await client.next('suback')
  return 'granted' in suback ? (suback.granted as number[]) : []
}

async function told(client: RawClient): Promise<{ topic: string; payload: unknown }> {
  const packet = (await client.next('publish')) as IPublishPacket
  client.packets.length = 0
  expect(packet).toMatchObject({ qos: 0, retain: false })
  return { topic: packet.topic, payload: JSON.parse(packet.payload.toString()) }
}

/** A QoS 0 message that is refused: nothing but the notice comes back. */
function refuseOne(client: RawClient): void {
  pipeline.verdict = () => limited
  client.publish(0, 'x', { qos: 0 })
}

describe('SUBSCRIBE', () => {
  it.each([
    [4, [1, 1, 0x80, 0x80, 0x80, 0x80]],
    [5, [1, 1, 0x87, 0x87, 0x8f, 0x9e]],
  ] as const)(
    'level %d: own filters are granted, others are refused in their place, and the connection stays',
    async (version, codes) => {
      const client = await connect('pump-1', version)
      expect(
        await subscribe(
          client,
          'devices/me/errors',
          'devices/pump-1/#',
          'devices/pump-2/errors',
          '#',
          'devices/me/x#',
          '$share/g/devices/me/errors',
        ),
      ).toEqual(codes)
      expect(await subscribe(client, '#')).toHaveLength(1)
      client.send({ cmd: 'pingreq' })
      await client.next('pingresp')
    },
  )

  it('answers every filter, also when two of them are the same inside', async () => {
    const client = await connect()
    expect(await subscribe(client, 'devices/me/errors', '#', 'devices/pump-1/errors', 'devices/me/errors')).toEqual([
      1, 0x80, 1, 1,
    ])
  })

  it('takes 32 filters of one client and no more', async () => {
    const client = await connect()
    const granted = await subscribe(client, ...Array.from({ length: 50 }, (_, n) => `devices/me/x/${n}`))
    expect(granted).toEqual([...Array(32).fill(1), ...Array(18).fill(0x80)])
  })

  it('is undone by UNSUBSCRIBE', async () => {
    const client = await connect('pump-1', 5)
    await subscribe(client, 'devices/me/errors')
    client.send({ cmd: 'unsubscribe', messageId: 3, unsubscriptions: ['devices/me/errors', 'devices/pump-2/errors'] })
    expect(await client.next('unsuback')).toMatchObject({ messageId: 3, granted: [0, 0x11] })
    client.packets.length = 0
    refuseOne(client)
    client.send({ cmd: 'pingreq' })
    await client.next('pingresp')
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(client.packets.map(({ cmd }) => cmd)).toEqual(['pingresp'])
  })
})

describe('the errors topic', () => {
  it.each([
    ['devices/me/errors', 'devices/me/errors'],
    ['devices/pump-1/errors', 'devices/pump-1/errors'],
    ['devices/pump-1/#', 'devices/pump-1/errors'],
    ['devices/me/+', 'devices/me/errors'],
  ])('by %s is named as the device named itself', async (filter, topic) => {
    for (const version of [4, 5] as const) {
      const client = await connect('pump-1', version)
      await subscribe(client, filter)
      refuseOne(client)
      expect(await told(client)).toEqual({ topic, payload: { code: 'rate_limited', limit: 'device', waitMs: 1200 } })
      client.destroy()
      await client.closed()
    }
  })

  it('tells the packet id of a parked message', async () => {
    const client = await connect()
    await subscribe(client, 'devices/me/errors')
    pipeline.verdict = () => ({ kind: 'parked', code: 'malformed', message: '', deadLetterId: '' })
    client.publish(17, 'x')
    expect((await told(client)).payload).toEqual({ code: 'malformed', pid: 17 })
  })

  it('of one device and tenant is nobody else’s', async () => {
    const own = await connect('pump-1')
    const other = await connect('pump-2')
    const twin = await connect('pump-1@other', 4, { username: 'pump-1@other' })
    const slashed = await connect('pump-1/x')
    for (const client of [own, other, twin, slashed]) await subscribe(client, 'devices/me/#')
    refuseOne(own)
    await told(own)
    await new Promise((resolve) => setTimeout(resolve, 50))
    for (const client of [other, twin, slashed]) expect(client.packets.map(({ cmd }) => cmd)).toEqual(['suback'])
    refuseOne(slashed)
    await told(slashed)
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(own.packets).toEqual([])
  })

  it('reaches another connection of the same device, too', async () => {
    const watcher = await connect('pump-1', 5, { clientId: 'watcher' })
    await subscribe(watcher, 'devices/me/errors')
    refuseOne(await connect('pump-1', 4, { clientId: 'sender' }))
    expect((await told(watcher)).payload).toMatchObject({ code: 'rate_limited' })
  })

  it('fits 256 bytes for the longest device id, and the client’s own bound', async () => {
    const device = 'd'.repeat(128)
    const client = await connect(device, 5)
    await subscribe(client, `devices/${device}/errors`)
    client.chunks.length = 0
    refuseOne(client)
    expect((await told(client)).topic).toBe(`devices/${device}/errors`)
    expect(Buffer.concat(client.chunks).length).toBeLessThanOrEqual(256)
    const small = await connect('small', 5, { properties: { maximumPacketSize: 40 } })
    await subscribe(small, 'devices/me/errors')
    small.packets.length = 0
    refuseOne(small)
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(small.packets).toEqual([])
  })

  it('is bounded: at most ten notices a second', async () => {
    const client = await connect()
    await subscribe(client, 'devices/me/errors')
    pipeline.verdict = () => limited
    for (let n = 0; n < 300; n++) client.publish(0, 'x', { qos: 0 })
    await expect.poll(() => pipeline.pushed.length).toBe(300)
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(client.packets.filter(({ cmd }) => cmd === 'publish').length).toBeLessThanOrEqual(20)
  })
})

describe('sessions', () => {
  it.each([
    [4, { clean: false }],
    [5, { clean: false, properties: { sessionExpiryInterval: 100 } }],
  ] as const)('level %d: subscriptions live on, with the names that the device uses', async (version, options) => {
    const first = await connect('pump-1', version, options)
    await subscribe(first, 'devices/pump-1/errors')
    first.destroy()
    await expect.poll(() => test.count('fleetbridge_mqtt_connections')).toBe(0)
    const second = await connect('pump-1', version, options)
    refuseOne(second)
    expect((await told(second)).topic).toBe('devices/pump-1/errors')
  })

  it('end when an MQTT 5 client says so in its DISCONNECT, or when their time is over', async () => {
    for (const [sessionExpiryInterval, last] of [
      [100, { sessionExpiryInterval: 0 }],
      [1, {}],
    ] as const) {
      const options = { clean: false, properties: { sessionExpiryInterval } }
      const first = await connect('pump-1', 5, options)
      await subscribe(first, 'devices/me/errors')
      first.send({ cmd: 'disconnect', reasonCode: 0, properties: last })
      await first.closed()
      await new Promise((resolve) => setTimeout(resolve, 1100))
      const second = await connect('pump-1', 5, options)
      refuseOne(second)
      await new Promise((resolve) => setTimeout(resolve, 50))
      expect(second.packets).toEqual([])
      second.destroy()
      await second.closed()
    }
  })

  it('that were none cannot become one at DISCONNECT', async () => {
    const client = await connect('pump-1', 5)
    client.send({ cmd: 'disconnect', reasonCode: 0, properties: { sessionExpiryInterval: 10 } })
    await client.closed()
    expect(client.packets).toEqual([expect.objectContaining({ cmd: 'disconnect', reasonCode: 0x82 })])
  })

  it('are said to be present, and no longer than seven days', async () => {
    const connack = async (clean: boolean, sessionExpiryInterval: number) => {
      const client = await RawClient.open(test.port, 5)
      clients.push(client)
      client.send(connectPacket('pump-1', 5, { clean, properties: { sessionExpiryInterval } }))
      return client.next('connack')
    }
    expect(await connack(true, 0xffff_ffff)).toMatchObject({
      sessionPresent: false,
      properties: { sessionExpiryInterval: 604_800 },
    })
    const again = await connack(false, 60)
    expect(again).toMatchObject({ sessionPresent: true })
    expect(again).not.toHaveProperty('properties.sessionExpiryInterval')
    expect(await connack(true, 60)).toMatchObject({ sessionPresent: false })
  })

  it('end with a clean start', async () => {
    const first = await connect('pump-1', 4, { clean: false })
    await subscribe(first, 'devices/me/errors')
    first.destroy()
    await expect.poll(() => test.count('fleetbridge_mqtt_connections')).toBe(0)
    const second = await connect('pump-1', 4, { clean: true })
    refuseOne(second)
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(second.packets).toEqual([])
  })
})

describe('mqtt.js', () => {
  it.each([4, 5] as const)(
    'level %d: publishes at each QoS, subscribes, unsubscribes and hears its errors',
    async (protocolVersion) => {
      const client = await mqtt.connectAsync({
        host: '127.0.0.1',
        port: test.port,
        protocolVersion,
        clientId: `mqttjs-${protocolVersion}`,
        username: 'pump-1',
        password: 't-pump-1',
        reconnectPeriod: 0,
      })
      for (const qos of [0, 1, 2] as const) await client.publishAsync('devices/me/telemetry', `qos ${qos}`, { qos })
      await expect.poll(() => pipeline.payloads).toEqual(['qos 0', 'qos 1', 'qos 2'])
      await client.subscribeAsync('devices/me/errors', { qos: 1 })
      pipeline.verdict = () => limited
      const message = new Promise<string>((resolve) => client.once('message', resolve))
      await client.publishAsync('devices/me/telemetry', 'x')
      expect(await message).toBe('devices/me/errors')
      await client.unsubscribeAsync('devices/me/errors')
      await client.endAsync()
    },
  )

  it('publishes with topic aliases that it chooses itself', async () => {
    const client = await mqtt.connectAsync({
      host: '127.0.0.1',
      port: test.port,
      protocolVersion: 5,
      username: 'gw-1',
      password: 't-gw-1',
      autoAssignTopicAlias: true,
      reconnectPeriod: 0,
    })
    for (let n = 0; n < 200; n++) await client.publishAsync(`devices/kid-${n % 50}/telemetry`, `${n}`, { qos: 1 })
    expect(pipeline.pushed.map(({ ingress }) => ingress.topic)).toEqual(
      Array.from({ length: 200 }, (_, n) => `devices/kid-${n % 50}/telemetry`),
    )
    await client.endAsync()
  })
})
