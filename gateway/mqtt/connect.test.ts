import type { IConnackPacket, IConnectPacket } from 'mqtt-packet'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { connectPacket, RawClient } from './testing/raw-client.ts'
import { startTestSource, type TestSource } from './testing/source.ts'

let test: TestSource
beforeAll(async () => {
  test = await startTestSource({ connectTimeoutMs: 500, maxConnections: 50 })
})
afterAll(() => test[Symbol.asyncDispose]())

async function connack(version: 3 | 4 | 5, more: Partial<IConnectPacket>): Promise<IConnackPacket> {
  const client = await RawClient.open(test.port, version)
  client.send(connectPacket('pump-1', version, more))
  const packet = (await client.next('connack')) as IConnackPacket
  if ((packet.reasonCode ?? packet.returnCode) !== 0) await client.closed()
  client.destroy()
  return packet
}

const password = (token: string) => Buffer.from(token)
const will = (topic: string) => ({ topic, payload: Buffer.from('gone'), qos: 0 as const, retain: false })

describe('CONNECT', () => {
  // Reason code of MQTT 5, return code of 3.1.1.
  it.each<[string, Partial<IConnectPacket>, number, number]>([
    ['device and token', {}, 0, 0],
    ['device@tenant and token', { username: 'pump-1@default' }, 0, 0],
    ['the token as user name', { username: 't-pump-1', password: Buffer.alloc(0) }, 0, 0],
    ['a wrong token', { password: password('t-pump-2') }, 0x86, 4],
    ['another device', { username: 'pump-2' }, 0x86, 4],
    ['another tenant', { username: 'pump-1@other' }, 0x86, 4],
    ['a user name that only begins alike', { username: 'pump-1@' }, 0x86, 4],
    ['a disabled credential', { password: password('t-disabled') }, 0x87, 5],
    ['credentials that were never loaded', { password: password('t-unavailable') }, 0x88, 3],
    ['a client id with a control character', { clientId: 'a\u0001' }, 0x85, 2],
    ['a client id of 300 characters', { clientId: 'x'.repeat(300) }, 0x85, 2],
    ['a will on its own topic', { will: will('devices/me/telemetry') }, 0, 0],
    ["a will on another device's topic", { will: will('devices/pump-2/telemetry') }, 0x87, 5],
    ['a will on a wildcard', { will: will('devices/+/telemetry') }, 0x90, 5],
  ])('with %s', async (_what, more, reason, returnCode) => {
    expect((await connack(5, more)).reasonCode).toBe(reason)
    expect((await connack(4, more)).returnCode).toBe(returnCode)
  })

  it('without any credentials', async () => {
    for (const version of [4, 5] as const) {
      const client = await RawClient.open(test.port, version)
      const { username: _user, password: _password, ...bare } = connectPacket('pump-1', version)
      client.send(bare)
      expect(await client.next('connack')).toMatchObject(version === 5 ? { reasonCode: 0x86 } : { returnCode: 4 })
    }
  })

  it('tells an MQTT 5 client what it may do, and the client id that it was given', async () => {
    const { properties } = await connack(5, { clientId: '' })
    expect(properties).toMatchObject({
      receiveMaximum: 100,
      maximumPacketSize: 1_048_576,
      topicAliasMaximum: 32,
      sharedSubscriptionAvailable: false,
      assignedClientIdentifier: expect.stringMatching(/^fb-/),
    })
    expect((await connack(5, {})).properties).not.toHaveProperty('assignedClientIdentifier')
  })

  it('with an empty client id on 3.1.1: fine with a clean session, refused without', async () => {
    expect((await connack(4, { clientId: '' })).returnCode).toBe(0)
    const client = await RawClient.open(test.port)
    // By hand: mqtt-packet does not write it.
    const token = Buffer.from('t-pump-1')
    const body = Buffer.concat([
      Buffer.from('\0\x04MQTT\x04\x80\0\x3c\0\0\0', 'latin1'),
      Buffer.from([token.length]),
      token,
    ])
    client.socket.write(Buffer.concat([Buffer.from([0x10, body.length]), body]))
    expect(await client.next('connack')).toMatchObject({ returnCode: 2 })
    client.destroy()
  })

  it('with an authentication method that nobody knows', async () => {
    expect((await connack(5, { properties: { authenticationMethod: 'SCRAM' } })).reasonCode).toBe(0x8c)
  })

  it('of protocol levels that do not exist', async () => {
    for (const [level, bytes] of [
      [2, [0x20, 2, 0, 1]],
      [6, [0x20, 3, 0, 0x84, 0]],
    ] as const) {
      const client = await RawClient.open(test.port)
      client.socket.write(Buffer.from([0x10, 12, 0, 4, 0x4d, 0x51, 0x54, 0x54, level, 2, 0, 60, 0, 0]))
      await client.closed()
      expect(Buffer.concat(client.chunks)).toEqual(Buffer.from(bytes))
    }
  })

  it('that never comes: closed after the timeout, also when it comes byte by byte', async () => {
    const silent = await RawClient.open(test.port)
    const slow = await RawClient.open(test.port)
    const drip = setInterval(() => slow.socket.write(Buffer.from([slow.socket.bytesWritten === 0 ? 0x10 : 0x20])), 50)
    await Promise.all([silent.closed(), slow.closed()])
    clearInterval(drip)
    expect(await test.count('fleetbridge_mqtt_closed_total', { reason: 'connect_timeout' })).toBe(2)
  })

  it('that is something else: closed at once', async () => {
    for (const bytes of ['GET / HTTP/1.1\r\n\r\n', '\x30\x05\x00\x01a12', '\x00']) {
      const client = await RawClient.open(test.port)
      client.socket.write(Buffer.from(bytes, 'latin1'))
      await client.closed(400)
      expect(client.chunks).toEqual([])
    }
  })

  it('of more than 16 KiB: closed before it is whole', async () => {
    const client = await RawClient.open(test.port)
    client.socket.write(Buffer.from([0x10, 0x81, 0x80, 0x01]))
    await client.closed(400)
  })

  it('twice: a protocol error', async () => {
    for (const version of [4, 5] as const) {
      const client = await RawClient.connect(test.port, 'twice', version)
      client.send(connectPacket('twice', version))
      await client.closed()
      expect(client.packets).toEqual(version === 5 ? [expect.objectContaining({ reasonCode: 0x82 })] : [])
    }
  })

  it('of the 51st connection: closed', async () => {
    const many = await Promise.all(Array.from({ length: 50 }, () => RawClient.open(test.port)))
    const last = await RawClient.open(test.port)
    await last.closed(400)
    for (const client of many) client.destroy()
    await Promise.all(many.map((client) => client.closed()))
  })

  it('with what belongs behind it in one piece: all of it is taken, in order', async () => {
    const client = await RawClient.open(test.port)
    const before = test.pipeline.pushed.length
    client.send(
      connectPacket('eager', 4),
      { cmd: 'subscribe', messageId: 9, subscriptions: [{ topic: 'devices/me/errors', qos: 0 }] },
      ...[1, 2, 3].map((n) => ({
        cmd: 'publish' as const,
        topic: 'devices/me/telemetry',
        payload: `${n}`,
        qos: 1 as const,
        messageId: n,
        dup: false,
        retain: false,
      })),
      { cmd: 'pingreq' },
      { cmd: 'disconnect' },
    )
    await client.closed()
    expect(test.pipeline.payloads.slice(before)).toEqual(['1', '2', '3'])
    expect(client.packets[0]).toMatchObject({ cmd: 'connack', returnCode: 0 })
  })
})

describe('client ids', () => {
  it('of two tenants, and of two devices, never meet', async () => {
    const one = await RawClient.connect(test.port, 'esp32', 5, { clientId: 'same' })
    const two = await RawClient.connect(test.port, 'esp32@other', 5, { clientId: 'same', username: 'esp32@other' })
    const three = await RawClient.connect(test.port, 'esp33', 5, { clientId: 'same' })
    for (const client of [one, two, three]) {
      client.publish(1, 'x')
      expect(await client.answered(1)).toEqual([[1, 0]])
      client.destroy()
    }
  })

  it('of the same device: the newer connection takes over', async () => {
    const older = await RawClient.connect(test.port, 'esp34', 5)
    const oldest311 = await RawClient.connect(test.port, 'esp35', 4)
    const newer = await RawClient.connect(test.port, 'esp34', 5)
    const newer311 = await RawClient.connect(test.port, 'esp35', 4)
    await Promise.all([older.closed(), oldest311.closed()])
    expect(older.packets).toEqual([expect.objectContaining({ cmd: 'disconnect', reasonCode: 0x8e })])
    for (const client of [newer, newer311]) {
      client.publish(1, 'x')
      expect(await client.answered(1)).toEqual([[1, 0]])
      client.destroy()
    }
  })

  it('taken over again and again at once: the last one stays, and is served', async () => {
    const clients = await Promise.all(Array.from({ length: 20 }, () => RawClient.open(test.port)))
    for (const client of clients) client.send(connectPacket('storm', 4, { clean: false }))
    await Promise.all(clients.map((client) => client.next('connack').catch(() => undefined)))
    await expect.poll(() => clients.filter(({ isClosed }) => !isClosed).length).toBe(1)
    const survivor = clients.find(({ isClosed }) => !isClosed) as RawClient
    survivor.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'devices/me/errors', qos: 0 }] })
    expect(await survivor.next('suback')).toMatchObject({ granted: [0] })
    survivor.destroy()
  })
})

it('counts CONNECTs and closed connections by what became of them', async () => {
  const before = await test.count('fleetbridge_mqtt_connects_total', { result: 'bad_credentials' })
  await connack(4, { password: password('wrong') })
  expect(await test.count('fleetbridge_mqtt_connects_total', { result: 'bad_credentials' })).toBe(before + 1)
  await expect.poll(() => test.count('fleetbridge_mqtt_connections')).toBe(0)
})
