import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { acknowledge, command, persistent, received, say, subscribe, TestCluster, texts } from './cluster.fixture.ts'

let cluster: TestCluster

beforeEach(async () => {
  cluster = await TestCluster.start()
  await expect.poll(() => cluster.shares()).toBe(true)
})
afterEach(() => cluster[Symbol.asyncDispose]())

const settled = (ms = 300) => new Promise((resolve) => setTimeout(resolve, ms))

describe('messages', () => {
  it.each([0, 1, 2] as const)('QoS %i reaches subscribers of both gateways, once, at its QoS', async (qos) => {
    const [here, there, sender] = [
      await cluster.connect(0, 'here'),
      await cluster.connect(1, 'there'),
      await cluster.connect(0, 'sender'),
    ]
    for (const { client } of [here, there]) await subscribe(client, 'to/#', 2)
    sender.client.publish(7, 'hello', { topic: 'to/all', qos })
    await expect.poll(() => [texts(here.client), texts(there.client)]).toEqual([['hello'], ['hello']])
    await settled(100)
    expect([...received(here.client), ...received(there.client)].map((packet) => packet.qos)).toEqual([qos, qos])
  })

  it('keep their order, whatever their QoS', async () => {
    const { client: there } = await cluster.connect(1, 'there')
    const { client: here } = await cluster.connect(0, 'here')
    const { client: sender } = await cluster.connect(0, 'sender')
    for (const client of [here, there]) await subscribe(client, 'to/#')
    const sent = Array.from({ length: 60 }, (_, n) => `${n}`)
    for (const [n, text] of sent.entries()) sender.publish(n + 1, text, { topic: 'to/all', qos: (n % 2) as 0 | 1 })
    await sender.answered(30)
    await expect.poll(() => texts(there).length).toBe(60)
    expect(texts(there)).toEqual(sent)
    expect(texts(here)).toEqual(sent)
  })

  it('of another tenant stay there', async () => {
    const [{ client: mine }, { client: theirs }] = [
      await cluster.connect(1, 'watcher'),
      await cluster.connect(1, 'watcher@other'),
    ]
    const { client: sender } = await cluster.connect(0, 'sender@other')
    for (const client of [mine, theirs]) await subscribe(client, '#')
    await command(sender, 'to/all', 'hello', { retain: true })
    await expect.poll(() => texts(theirs)).toEqual(['hello'])
    expect(texts(mine)).toEqual([])
  })

  it('with their properties and what is left of their time', async () => {
    const { client: there } = await cluster.connect(1, 'there')
    const { client: sender } = await cluster.connect(0, 'sender')
    await subscribe(there, 'to/#')
    const properties = { contentType: 'x/y', messageExpiryInterval: 100, userProperties: { a: 'b' } }
    await command(sender, 'to/all', 'hello', { properties })
    await expect.poll(() => received(there).length).toBe(1)
    expect(received(there)[0]?.properties).toMatchObject({ contentType: 'x/y', userProperties: { a: 'b' } })
    expect(received(there)[0]?.properties?.messageExpiryInterval).toBeGreaterThan(90)
  })

  it('telemetry stays at its gateway', async () => {
    const { client: here } = await cluster.connect(0, 'here')
    const { client: there } = await cluster.connect(1, 'there')
    const { client: sender } = await cluster.connect(0, 'sender')
    for (const client of [here, there]) await subscribe(client, '#')
    await command(sender, 'devices/me/telemetry', '{"values":{}}')
    await expect.poll(() => texts(here).length).toBe(1)
    await settled(100)
    expect(texts(there)).toEqual([])
  })
})

describe('take-over', () => {
  it.each([
    [0, 1],
    [1, 0],
  ])('gateway %i loses the client to gateway %i', async (from, to) => {
    const { client: older } = await cluster.connect(from, 'pump-1')
    const { client: newer } = await cluster.connect(to, 'pump-1')
    await older.closed()
    expect(older.packets.at(-1)).toMatchObject({ cmd: 'disconnect', reasonCode: 0x8e })
    await settled(100)
    expect(newer.isClosed).toBe(false)
    expect(await cluster.gateway(from).count('fleetbridge_mqtt_closed_total', { reason: 'taken_over' })).toBe(1)
  })

  it('another device or tenant with the same client id is another client', async () => {
    const { client: one } = await cluster.connect(0, 'pump-1', 5, { clientId: 'same' })
    const { client: two } = await cluster.connect(1, 'pump-2', 5, { clientId: 'same' })
    const { client: three } = await cluster.connect(1, 'pump-1@other', 5, { clientId: 'same' })
    await settled(200)
    expect([one, two, three].map(({ isClosed }) => isClosed)).toEqual([false, false, false])
  })
})

describe('sessions', () => {
  it('move with subscriptions and what was queued, and back, each message once', async () => {
    const { client: sender } = await cluster.connect(0, 'sender')
    const sent: string[] = []
    const got: string[] = []
    let { client: device } = await cluster.connect(0, 'pump-1', 5, persistent(true))
    await subscribe(device, 'to/pump-1')
    for (let round = 0; round < 6; round++) {
      // One that it gets and acknowledges, and three while it is away.
      sent.push(`live ${round}`)
      await command(sender, 'to/pump-1', `live ${round}`)
      await expect.poll(() => texts(device)).toContain(`live ${round}`)
      acknowledge(device)
      got.push(...texts(device))
      await say(device)
      for (let n = 0; n < 3; n++) {
        sent.push(`${round} ${n}`)
        await command(sender, 'to/pump-1', `${round} ${n}`)
      }
      const next = await cluster.connect((round + 1) % 2, 'pump-1', 5, persistent())
      expect(next.sessionPresent).toBe(true)
      device = next.client
      await expect.poll(() => texts(device).length).toBe(3)
      acknowledge(device)
    }
    await settled()
    got.push(...texts(device))
    expect(got).toEqual(sent)
  })

  it('taken over while it is connected: what was acknowledged does not come again, what was not does', async () => {
    const { client: sender } = await cluster.connect(0, 'sender')
    const { client: older } = await cluster.connect(0, 'pump-1', 5, persistent(true))
    await subscribe(older, 'to/pump-1')
    for (let n = 0; n < 20; n++) await command(sender, 'to/pump-1', `${n}`)
    await expect.poll(() => texts(older).length).toBe(20)
    for (const { messageId = 0 } of received(older).slice(0, 15)) older.send({ cmd: 'puback', messageId })
    const { client: newer, sessionPresent } = await cluster.connect(1, 'pump-1', 5, persistent())
    expect(sessionPresent).toBe(true)
    await older.closed()
    await expect.poll(() => texts(newer)).toEqual(['15', '16', '17', '18', '19'])
    await command(sender, 'to/pump-1', 'last')
    await expect.poll(() => texts(newer).at(-1)).toBe('last')
    await settled()
    expect(texts(newer).length).toBe(6)
  })

  it('a clean start ends the session of every gateway', async () => {
    const { client: sender } = await cluster.connect(0, 'sender')
    const { client: device } = await cluster.connect(0, 'pump-1', 5, persistent(true))
    await subscribe(device, 'to/pump-1')
    await say(device)
    await command(sender, 'to/pump-1', 'missed')
    const { client: clean, sessionPresent } = await cluster.connect(1, 'pump-1', 5, persistent(true))
    expect(sessionPresent).toBe(false)
    await say(clean)
    const again = await cluster.connect(0, 'pump-1', 5, persistent())
    await command(sender, 'to/pump-1', 'not subscribed')
    await settled()
    expect([...texts(clean), ...texts(again.client)]).toEqual([])
  })

  it('ends after its time, on every gateway', async () => {
    const { client: device } = await cluster.connect(0, 'pump-1', 5, {
      clean: true,
      properties: { sessionExpiryInterval: 1 },
    })
    await subscribe(device, 'to/pump-1')
    await say(device)
    await settled(1300)
    expect((await cluster.connect(1, 'pump-1', 5, persistent())).sessionPresent).toBe(false)
  })

  it('of 3.1.1 moves, too', async () => {
    const { client: sender } = await cluster.connect(1, 'sender')
    const { client: device } = await cluster.connect(0, 'pump-1', 4, { clean: false })
    await subscribe(device, 'to/pump-1')
    await say(device)
    await command(sender, 'to/pump-1', 'waiting')
    const moved = await cluster.connect(1, 'pump-1', 4, { clean: false })
    expect(moved.sessionPresent).toBe(true)
    await expect.poll(() => texts(moved.client)).toEqual(['waiting'])
  })

  it('a gateway that is gone leaves its sessions to the others', async () => {
    const { client: sender } = await cluster.connect(1, 'sender')
    const { client: device } = await cluster.connect(0, 'pump-1', 5, persistent(true))
    await subscribe(device, 'to/pump-1')
    await cluster.gateway(0)[Symbol.asyncDispose]()
    cluster.gateways.splice(0, 1)
    await command(sender, 'to/pump-1', 'waiting')
    const moved = await cluster.connect(0, 'pump-1', 5, persistent())
    expect(moved.sessionPresent).toBe(true)
    await expect.poll(() => texts(moved.client)).toEqual(['waiting'])
  })
})

describe('retained messages', () => {
  it('are seen by subscribers of every gateway, one that starts later too', async () => {
    const { client: sender } = await cluster.connect(0, 'sender')
    await command(sender, 'state/a', 'one', { retain: true })
    await command(sender, 'state/b', 'two', { retain: true })
    await command(sender, 'state/b', 'three', { retain: true })
    await command(sender, 'state/c', 'gone', { retain: true })
    await command(sender, 'state/c', '', { retain: true })
    await cluster.addGateway()
    for (const index of [0, 1, 2]) {
      const { client } = await cluster.connect(index, `watcher-${index}`)
      await subscribe(client, 'state/#')
      await expect.poll(() => texts(client).sort()).toEqual(['one', 'three'])
      expect(received(client).every(({ retain }) => retain)).toBe(true)
    }
  })

  it('survive that every gateway starts anew', async () => {
    const { client: sender } = await cluster.connect(0, 'sender')
    await command(sender, 'state/a', 'one', { retain: true })
    for (const gateway of cluster.gateways.splice(0)) await gateway[Symbol.asyncDispose]()
    await cluster.addGateway()
    const { client } = await cluster.connect(0, 'watcher')
    await subscribe(client, 'state/#')
    await expect.poll(() => texts(client)).toEqual(['one'])
  })

  it('of one device are bounded over all gateways together', async () => {
    const options = { clientId: 'sender' }
    const { client: here } = await cluster.connect(0, 'sender', 5, options)
    const { client: there } = await cluster.connect(1, 'sender', 5, { clientId: 'other' })
    const big = 'x'.repeat(60_000)
    await command(here, 'state/a', big, { retain: true })
    await expect.poll(() => there.answers.length).toBe(0)
    await settled()
    await command(there, 'state/b', big, { retain: true })
    expect(there.answers.at(-1)?.[1], 'quota exceeded').toBe(0x97)
  })
})

it('notices of errors reach an operator on the other gateway, and go to Redis only while there is one', async () => {
  cluster.gateway(0).pipeline.verdict = () => ({ kind: 'parked', code: 'malformed', message: 'no', deadLetterId: 'x' })
  const { client: device } = await cluster.connect(0, 'pump-1')
  const { client: operator } = await cluster.connect(1, 'op-1')
  const { client: stranger } = await cluster.connect(1, 'op-1@other')
  for (const client of [operator, stranger]) await subscribe(client, 'devices/+/errors')
  await expect
    .poll(async () => {
      await command(device, 'devices/me/telemetry', 'garbage')
      return received(operator).length
    })
    .toBeGreaterThan(0)
  expect(received(operator)[0]?.topic).toBe('devices/pump-1/errors')
  await settled(100)
  expect(received(stranger)).toEqual([])
})
