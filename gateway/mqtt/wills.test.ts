import type { IPublishPacket } from 'mqtt-packet'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { RawClient } from './testing/raw-client.ts'
import { startTestSource, type TestSource } from './testing/source.ts'

let test: TestSource
let watcher: RawClient
const clients: RawClient[] = []

beforeEach(async () => {
  test = await startTestSource({ open: true })
  watcher = await connect('watcher')
  watcher.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'will/#', qos: 1 }] })
  await watcher.next('suback')
})
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy()
  await test[Symbol.asyncDispose]()
})

async function connect(clientId: string, more = {}): Promise<RawClient> {
  const client = await RawClient.connect(test.port, clientId, 5, { clientId, ...more })
  clients.push(client)
  return client
}

const withWill = (delaySeconds: number, sessionSeconds: number, more = {}) => ({
  will: {
    topic: 'will/x',
    payload: Buffer.from('gone'),
    qos: 1 as const,
    retain: false,
    properties: { willDelayInterval: delaySeconds, userProperties: { a: 'b' }, ...more },
  },
  properties: { sessionExpiryInterval: sessionSeconds },
})

const said = () => watcher.packets.filter((packet): packet is IPublishPacket => packet.cmd === 'publish')
const afterMs = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

async function lose(client: RawClient): Promise<number> {
  client.destroy()
  await client.closed()
  return performance.now()
}

describe('the will delay', () => {
  it.each([
    ['no delay', 0, 60, 0],
    ['its delay', 1, 60, 1],
    ['the end of the session, which comes first', 60, 1, 1],
    ['a session that ends with the connection', 60, 0, 0],
  ])('%s: the will is said then, once, with its properties', async (_, delaySeconds, sessionSeconds, afterSeconds) => {
    const client = await connect('c', withWill(delaySeconds, sessionSeconds))
    const lostMs = await lose(client)
    await expect.poll(() => said().length, { timeout: 3000, interval: 10 }).toBe(1)
    expect(performance.now() - lostMs).toBeGreaterThan(afterSeconds * 1000 - 50)
    expect(said()[0]).toMatchObject({ topic: 'will/x', qos: 1, properties: { userProperties: { a: 'b' } } })
    await afterMs(50)
    expect(said().length).toBe(1)
  })

  it('a client that comes back to its session in time has not left', async () => {
    await lose(await connect('c', withWill(1, 60)))
    const back = await connect('c', { clean: false, properties: { sessionExpiryInterval: 60 } })
    await afterMs(1200)
    expect(said()).toEqual([])
    expect(back.isClosed).toBe(false)
  })

  it('a client that begins anew has ended its session, and one that takes over has not', async () => {
    await lose(await connect('c', withWill(60, 60)))
    await connect('c', { clean: true })
    await expect.poll(() => said().length).toBe(1)
    await connect('d', withWill(60, 60))
    await connect('d', { clean: false })
    await afterMs(100)
    expect(said().length).toBe(1)
  })

  it('DISCONNECT takes the will away, but with 0x04', async () => {
    const quiet = await connect('quiet', withWill(0, 60))
    quiet.send({ cmd: 'disconnect' })
    await quiet.closed()
    await afterMs(50)
    expect(said()).toEqual([])
    const loud = await connect('loud', withWill(0, 60))
    loud.send({ cmd: 'disconnect', reasonCode: 4 })
    await expect.poll(() => said().length).toBe(1)
  })
})

it('a retained will is kept, as long as it has time', async () => {
  const { will, properties } = withWill(0, 0)
  await lose(await connect('c', { will: { ...will, retain: true }, properties }))
  await expect.poll(() => said().length).toBe(1)
  const late = await connect('late')
  late.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: '#', qos: 0 }] })
  expect(await late.next('publish')).toMatchObject({ topic: 'will/x', retain: true })
})

it('a will on a telemetry topic goes down the path after its delay, and is seen by who listens', async () => {
  watcher.send({ cmd: 'subscribe', messageId: 2, subscriptions: [{ topic: 'devices/+/telemetry', qos: 0 }] })
  await expect.poll(() => watcher.packets.filter(({ cmd }) => cmd === 'suback').length).toBe(2)
  const { will, properties } = withWill(1, 60)
  const lostMs = await lose(await connect('c', { will: { ...will, topic: 'devices/me/telemetry' }, properties }))
  await expect.poll(() => test.pipeline.payloads, { timeout: 3000 }).toEqual(['gone'])
  expect(performance.now() - lostMs).toBeGreaterThan(950)
  await expect.poll(() => said().map(({ topic }) => topic)).toEqual(['devices/c/telemetry'])
})
