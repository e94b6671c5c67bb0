import { Redis } from 'ioredis'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { acknowledge, command, persistent, say, subscribe, TestCluster, texts } from './cluster.fixture.ts'

let cluster: TestCluster

beforeEach(async () => {
  cluster = await TestCluster.start()
  await expect.poll(() => cluster.shares()).toBe(true)
})
afterEach(() => cluster[Symbol.asyncDispose]())

const settled = (ms = 300) => new Promise((resolve) => setTimeout(resolve, ms))
const isAway = async () =>
  (await Promise.all(cluster.gateways.map((each) => each.count('fleetbridge_mqtt_cluster_local')))).every(
    (value) => value === 1,
  )
const telemetry = { topic: 'devices/me/telemetry' }

it('a Redis that is killed and comes back empty: gateways go on by themselves, and share all they have again', async () => {
  const { client: sender } = await cluster.connect(0, 'sender')
  const { client: device } = await cluster.connect(0, 'pump-1', 5, persistent(true))
  const { client: twin } = await cluster.connect(0, 'twin')
  await subscribe(device, 'to/pump-1')
  await command(sender, 'state/before', 'before', { retain: true })
  await cluster.redis.kill()
  await expect.poll(isAway).toBe(true)

  // What is served meanwhile: telemetry, live and waiting messages of the same gateway, logins.
  await command(sender, 'devices/me/telemetry', '{}')
  await command(sender, 'to/pump-1', 'live')
  await expect.poll(() => texts(device)).toEqual(['live'])
  acknowledge(device)
  await say(device)
  await command(sender, 'to/pump-1', 'waiting')
  await command(sender, 'state/during', 'during', { retain: true })
  await settled(100)
  const { client: laterTwin } = await cluster.connect(1, 'twin')
  expect(twin.isClosed, 'nobody could tell').toBe(false)

  await cluster.redis.restart()
  await expect.poll(() => cluster.shares(), { timeout: 20_000 }).toBe(true)
  await twin.closed()
  expect(laterTwin.isClosed).toBe(false)
  const moved = await cluster.connect(1, 'pump-1', 5, persistent())
  expect(moved.sessionPresent).toBe(true)
  await expect.poll(() => texts(moved.client)).toEqual(['waiting'])
  await command(sender, 'to/pump-1', 'again')
  await expect.poll(() => texts(moved.client)).toEqual(['waiting', 'again'])
  const { client: watcher } = await cluster.connect(1, 'watcher')
  await subscribe(watcher, 'state/#')
  await expect.poll(() => texts(watcher).sort()).toEqual(['before', 'during'])
  for (const gateway of cluster.gateways)
    expect(await gateway.count('fleetbridge_mqtt_cluster_away_total', { reason: 'unreachable' })).toBe(1)
})

it('what one gateway was sent while it could not hear of it is delivered when it can', async () => {
  const { client: sender } = await cluster.connect(1, 'sender')
  const { client: device } = await cluster.connect(0, 'pump-1', 5, persistent(true))
  await subscribe(device, 'to/pump-1')
  await command(sender, 'to/pump-1', 'first')
  await expect.poll(() => texts(device)).toEqual(['first'])
  acknowledge(device)
  await settled(100)
  // Gateway 0 is cut off: only it loses its connections, and for as long as it takes to come back.
  const admin = new Redis(cluster.redis.url)
  const list = (await admin.client('LIST')) as string
  // The one that listens for the errors of the tenant, too, since a subscriber there may see them.
  const line = list.split('\n').find((each) => each.includes(' sub=2 ')) ?? ''
  expect(await admin.client('KILL', 'ID', /id=(\d+)/.exec(line)?.[1] ?? '')).toBe(1)
  for (let n = 0; n < 5; n++) await command(sender, 'to/pump-1', `${n}`)
  await expect.poll(() => cluster.shares(), { timeout: 20_000 }).toBe(true)
  await expect.poll(() => [...new Set(texts(device))]).toEqual(['first', '0', '1', '2', '3', '4'])
  admin.disconnect()
})

it('a Redis that is frozen holds no telemetry up, and messages and logins for a moment only', async () => {
  const impatient = await cluster.addGateway({ answerMs: 100 })
  const index = cluster.gateways.indexOf(impatient)
  const { client: sender } = await cluster.connect(index, 'sender')
  const { client: device } = await cluster.connect(index, 'pump-1')
  await subscribe(device, 'to/pump-1')
  cluster.redis.pause()
  try {
    sender.publish(1, '{}', telemetry)
    sender.publish(2, 'live', { topic: 'to/pump-1' })
    await expect.poll(() => texts(device), { timeout: 5000 }).toEqual(['live'])
    expect((await sender.answered(2)).map(([id]) => id)).toEqual([1, 2])
    const startedMs = performance.now()
    await cluster.connect(index, 'pump-2')
    expect(performance.now() - startedMs).toBeLessThan(3000)
  } finally {
    cluster.redis.resume()
  }
  await expect.poll(() => cluster.shares(), { timeout: 20_000 }).toBe(true)
})

it('a gateway that starts without Redis serves, and shares once it is there', async () => {
  await cluster.redis.kill()
  const late = await cluster.addGateway()
  const index = cluster.gateways.indexOf(late)
  const { client: device } = await cluster.connect(index, 'pump-1', 5, persistent(true))
  await subscribe(device, 'to/pump-1')
  await command(device, 'devices/me/telemetry', '{}')
  await cluster.redis.restart()
  await expect.poll(() => cluster.shares(), { timeout: 20_000 }).toBe(true)
  const { client: sender } = await cluster.connect(0, 'sender')
  await command(sender, 'to/pump-1', 'hello')
  await expect.poll(() => texts(device)).toEqual(['hello'])
})
