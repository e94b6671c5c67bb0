import { Redis } from 'ioredis'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { connectPacket, RawClient } from '../testing/raw-client.ts'
import { seeded } from '../testing/seeded.ts'
import { acknowledge, command, persistent, say, subscribe, TestCluster, texts } from './cluster.fixture.ts'
import { eventsChannel, keys } from './keys.ts'

let cluster: TestCluster

beforeEach(async () => {
  cluster = await TestCluster.start()
  await expect.poll(() => cluster.shares()).toBe(true)
})
afterEach(() => cluster[Symbol.asyncDispose]())

const settled = (ms = 300) => new Promise((resolve) => setTimeout(resolve, ms))
const isOpen = (client: RawClient) => !client.isClosed && client.packets.some(({ cmd }) => cmd === 'connack')

/** Sends CONNECT and waits for nothing. */
async function knock(index: number, device: string): Promise<RawClient> {
  const client = await RawClient.open(cluster.gateway(index).port, 5)
  cluster.clients.push(client)
  client.send(connectPacket(device, 5, persistent()))
  return client
}

it('20 clients that come again at random, to either gateway, have one connection each in the end, and it is the latest', async () => {
  const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 1e6))
  console.log(`take-over races: seed ${seed}`)
  const random = seeded(seed)
  const plans = Array.from({ length: 20 }, () =>
    Array.from({ length: 5 }, () => ({ gateway: random(2), kind: random(4), pauseMs: random(60) })),
  )
  const ends = await Promise.all(
    plans.map(async (plan, n) => {
      const device = `pump-${n}`
      const all: RawClient[] = []
      for (const { gateway, kind, pauseMs } of plan) {
        if (kind === 0) await Promise.all(all.filter(isOpen).map(say))
        if (kind === 1) for (const client of all) client.destroy()
        // Two at the same time, one at each gateway: either may win.
        const coming = kind === 2 ? [await knock(0, device), await knock(1, device)] : [await knock(gateway, device)]
        all.push(...coming)
        // One that was slowed and would come in after it was given up takes over, too, so each is waited for.
        const isAnswered = (client: RawClient) => isOpen(client) || client.isClosed
        await vi.waitUntil(() => coming.every(isAnswered), { timeout: 60_000, interval: 5 })
        await settled(pauseMs)
      }
      return { all, isDecided: plan.at(-1)?.kind !== 2 }
    }),
  )
  const live = () => ends.map(({ all }) => all.filter((client) => !client.isClosed).length)
  await expect.poll(live, { timeout: 60_000 }).toEqual(plans.map(() => 1))
  await settled(1000)
  expect(live()).toEqual(plans.map(() => 1))
  for (const { all, isDecided } of ends) {
    if (isDecided) expect(all.at(-1)?.isClosed, 'the one that came last is there').toBe(false)
    for (const client of all) {
      const goodbye = client.packets.find(({ cmd }) => cmd === 'disconnect')
      if (goodbye !== undefined) expect(goodbye).toMatchObject({ reasonCode: 0x8e })
    }
  }
  // The one that is there is served by its gateway, and known to the other.
  const { client: sender } = await cluster.connect(0, 'sender')
  await Promise.all(
    ends.map(async ({ all }, n) => {
      const client = all.find(isOpen) as RawClient
      await subscribe(client, `to/${n}`)
      await command(sender, `to/${n}`, `${n}`)
      await expect.poll(() => texts(client)).toEqual([`${n}`])
    }),
  )
}, 120_000)

it('notices that are late or repeated close nobody', async () => {
  const { client: device } = await cluster.connect(0, 'pump-1')
  const redis = new Redis(cluster.redis.url)
  const epoch = await redis.hget(keys.session('default/pump-1/pump-1'), 'epoch')
  const tell = (of: string | number) => {
    const notice = { id: 'default/pump-1/pump-1', epoch: `${of}`, gateway: 'another', from: '', resumes: true }
    return redis.publish(eventsChannel(redis), `t${JSON.stringify(notice)}`)
  }
  for (const of of [1, Number(epoch) - 1, Number(epoch)]) await tell(of)
  for (const nonsense of ['t', 't{}', 'tnull', 'm', 'm1\n', 'm1\nxxxx{', 'r[]', '?', ''])
    await redis.publish(eventsChannel(redis), nonsense)
  await settled()
  expect(device.isClosed).toBe(false)
  await tell(Number(epoch) + 1)
  await device.closed()
  redis.disconnect()
})

it('a session that wanders at random while it is sent to gets each command once', async () => {
  const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 1e6))
  console.log(`wandering sessions: seed ${seed}`)
  const random = seeded(seed)
  const senders = [(await cluster.connect(0, 'sender-0')).client, (await cluster.connect(1, 'sender-1')).client]
  const devices = Array.from({ length: 5 }, (_, n) => ({
    name: `pump-${n}`,
    sent: [] as string[],
    got: [] as string[],
  }))
  for (const { name } of devices) {
    const { client } = await cluster.connect(0, name, 5, persistent(true))
    await subscribe(client, `to/${name}`)
    await say(client)
  }
  let isOver = false
  let packetId = 0
  const sending = (async () => {
    for (let n = 0; n < 300; n++) {
      const to = devices[random(devices.length)] as (typeof devices)[number]
      to.sent.push(`${n}`)
      senders[random(2)]?.publish(++packetId, `${n}`, { topic: `to/${to.name}` })
      await settled(random(12))
    }
    isOver = true
  })()
  await Promise.all(
    devices.map(async (device) => {
      do {
        const { client, sessionPresent } = await cluster.connect(random(2), device.name, 5, persistent())
        expect(sessionPresent).toBe(true)
        for (let n = random(4); n >= 0; n--) {
          await settled(40)
          acknowledge(client)
        }
        if (isOver) await settled(500)
        // Answers each message once, and says goodbye behind that.
        acknowledge(client)
        device.got.push(...texts(client))
        const before = texts(client).length
        await say(client)
        // What came between the answers and the goodbye comes again, rightly.
        expect(texts(client).length).toBeGreaterThanOrEqual(before)
        await settled(random(80))
      } while (!isOver)
    }),
  )
  await sending
  for (const device of devices) {
    const { client } = await cluster.connect(0, device.name, 5, persistent())
    await settled(500)
    device.got.push(...texts(client))
    const inOrder = [...device.got].sort((one, other) => Number(one) - Number(other))
    expect(inOrder, device.name).toEqual(device.sent)
  }
}, 60_000)
