import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { connectPacket, RawClient } from './testing/raw-client.ts'
import { startTestSource, type TestSource } from './testing/source.ts'

let test: TestSource
const clients: RawClient[] = []

beforeEach(async () => {
  test = await startTestSource({ maxTopicLevels: 6, maxTopicBytes: 160, maxFilters: 4 })
})
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy()
  await test[Symbol.asyncDispose]()
})

async function connect(device: string, version: 4 | 5 = 5, more = {}): Promise<RawClient> {
  const client = await RawClient.connect(test.port, device, version, more)
  clients.push(client)
  return client
}

const rest = 'devices/me/telemetry/'

describe('a topic', () => {
  it.each([
    ['six levels', `${rest}a/b/c`, true],
    ['seven levels', `${rest}a/b/c/d`, false],
    ['levels without a name', `${rest}////`, false],
    ['160 bytes', rest + 'x'.repeat(160 - rest.length), true],
    ['161 bytes', rest + 'x'.repeat(161 - rest.length), false],
    ['161 bytes in fewer characters', rest + 'ü'.repeat(71), false],
  ])('of %s', async (_what, topic, fits) => {
    for (const version of [4, 5] as const) {
      const client = await connect('pump-1', version, { clientId: `${version}` })
      client.publish(1, 'x', { topic })
      if (fits) expect(await client.answered(1)).toEqual([[1, 0]])
      else {
        await client.closed()
        expect(client.packets).toEqual(version === 5 ? [expect.objectContaining({ reasonCode: 0x90 })] : [])
      }
    }
    expect(await test.count('fleetbridge_mqtt_closed_total', { reason: 'topic_invalid' })).toBe(fits ? 0 : 2)
  })

  it('of a will is bounded alike', async () => {
    const client = await RawClient.open(test.port, 5)
    clients.push(client)
    const will = { topic: `${rest}a/b/c/d`, payload: Buffer.from('x'), qos: 0 as const, retain: false }
    client.send(connectPacket('pump-1', 5, { will }))
    expect(await client.next('connack')).toMatchObject({ reasonCode: 0x90 })
  })
})

describe('filters', () => {
  const subscribe = (client: RawClient, ...filters: string[]) =>
    client.send({ cmd: 'subscribe', messageId: 9, subscriptions: filters.map((topic) => ({ topic, qos: 0 as const })) })

  it('that are too long or too many get their codes in the SUBACK', async () => {
    const client = await connect('pump-1')
    subscribe(client, ...['a', 'b', 'c', 'd', 'e', 'a/b/c/d/e', 'x'.repeat(200)].map((name) => `devices/me/${name}`))
    expect(await client.next('suback')).toMatchObject({ granted: [0, 0, 0, 0, 0x97, 0x8f, 0x8f] })
  })

  it('of a list that is eight times longer than a session may be end the connection', async () => {
    for (const version of [4, 5] as const) {
      const client = await connect(`pump-${version}`, version)
      subscribe(client, ...Array.from({ length: 33 }, (_, n) => `devices/me/${n}`))
      await client.closed()
      expect(client.packets).toEqual(version === 5 ? [expect.objectContaining({ reasonCode: 0x97 })] : [])
    }
    expect(await test.count('fleetbridge_mqtt_closed_total', { reason: 'quota_exceeded' })).toBe(2)
  })
})

describe('a device', () => {
  const sessionPresent = async (clientId: string, clean = false) => {
    const client = await RawClient.open(test.port, 4)
    clients.push(client)
    client.send(connectPacket('pump-1', 4, { clientId, clean }))
    const connack = await client.next('connack')
    client.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'devices/me/errors', qos: 0 }] })
    await client.next('suback')
    client.send({ cmd: 'disconnect' })
    await client.closed()
    return connack.cmd === 'connack' && connack.sessionPresent
  }

  it('has 16 connections at most, but a fleet credential as many as it needs', async () => {
    for (const version of [4, 5] as const) {
      const device = `pump-${version}`
      for (let n = 0; n < 16; n++) await connect(device, version, { clientId: `${n}` })
      const refused = await RawClient.open(test.port, version)
      clients.push(refused)
      refused.send(connectPacket(device, version, { clientId: '16' }))
      expect(await refused.next('connack')).toMatchObject(version === 5 ? { reasonCode: 0x97 } : { returnCode: 3 })
      // One that takes over from another is not one more.
      await connect(device, version, { clientId: '3' })
    }
    expect(await test.count('fleetbridge_mqtt_connects_total', { result: 'too_many_clients' })).toBe(2)
    for (let n = 0; n < 20; n++) await connect('gw-1', 5, { clientId: `${n}` })
  })

  it('has one session: a newer one under another client id ends the older', async () => {
    expect(await sessionPresent('one')).toBe(false)
    expect(await sessionPresent('one')).toBe(true)
    expect(await sessionPresent('none', true)).toBe(false)
    expect(await sessionPresent('one')).toBe(true)
    expect(await sessionPresent('two')).toBe(false)
    expect(await sessionPresent('one')).toBe(false)
  })
})

it('names with special meaning in JavaScript are ordinary ones', async () => {
  const names = ['__proto__', 'constructor', 'prototype', 'hasOwnProperty', 'toString']
  for (const name of names)
    for (const version of [3, 4, 5] as const) {
      const client = await RawClient.connect(test.port, name, version, {
        clientId: name,
        clean: false,
        ...(version === 5 && { properties: { userProperties: { [name]: name, a: [name, name] } } }),
      })
      clients.push(client)
      client.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: `devices/me/${name}`, qos: 0 }] })
      expect(await client.next('suback')).toMatchObject({ granted: [0] })
      client.publish(2, 'x', {
        topic: `devices/me/telemetry/${name}`,
        ...(version === 5 && { properties: { contentType: name, userProperties: { [name]: name } } }),
      })
      expect(await client.answered(1)).toEqual([[2, 0]])
    }
  expect(new Set(test.pipeline.pushed.map(({ ingress }) => ingress.principal.device))).toEqual(new Set(names))
  expect(Object.keys(Object.prototype)).toEqual([])
})
