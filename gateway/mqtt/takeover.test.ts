import { afterEach, beforeEach, expect, it } from 'vitest'
import { connectPacket, RawClient } from './testing/raw-client.ts'
import { startTestSource, type TestSource } from './testing/source.ts'

let test: TestSource
const clients: RawClient[] = []

beforeEach(async () => {
  test = await startTestSource()
})
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy()
  await test[Symbol.asyncDispose]()
})

/** Connects without waiting for the answer. */
async function knock(version: 4 | 5 = 4): Promise<RawClient> {
  const client = await RawClient.open(test.port, version)
  clients.push(client)
  client.send(connectPacket('twin', version))
  return client
}

it('two connections that keep taking over from each other are slowed, and the one that is there is served', async () => {
  const startedMs = performance.now()
  let takeovers = 0
  let [live, rival] = [await knock(), await knock()]
  // Each comes back as soon as it was thrown out.
  while (performance.now() - startedMs < 1500) {
    const loser = live.isClosed ? live : rival.isClosed ? rival : undefined
    if (loser === undefined) {
      await new Promise((resolve) => setTimeout(resolve, 2))
      continue
    }
    takeovers++
    if (loser === live) live = await knock()
    else rival = await knock()
  }
  // Unslowed there are hundreds.
  expect(takeovers).toBeGreaterThan(2)
  expect(takeovers).toBeLessThan(8)
  const [one] = [live, rival].filter(({ packets }) => packets.some(({ cmd }) => cmd === 'connack'))
  one?.publish(1, 'x')
  expect(await one?.answered(1)).toEqual([[1, 0]])
})

it('of those that wait for the same client id the last one gets in', async () => {
  const first = await knock()
  await first.next('connack')
  for (let n = 0; n < 3; n++) await (await knock()).next('connack')
  const waiting = [await knock(5), await knock(5), await knock(5)]
  await Promise.all(waiting.slice(0, 2).map((client) => client.closed(500)))
  expect(waiting.slice(0, 2).map(({ packets }) => packets.length)).toEqual([0, 0])
  expect(await waiting[2]?.next('connack')).toMatchObject({ reasonCode: 0 })
  expect(await test.count('fleetbridge_mqtt_closed_total', { reason: 'taken_over' })).toBe(6)
})

it('a device that comes back calmly is not slowed', async () => {
  const startedMs = performance.now()
  for (let n = 0; n < 6; n++) {
    const client = await knock()
    await client.next('connack')
    client.destroy()
    await expect.poll(() => test.count('fleetbridge_mqtt_connections'), { interval: 5 }).toBe(0)
  }
  expect(performance.now() - startedMs, 'slowed it would be 1 + 2 + 4 s').toBeLessThan(4000)
})
