import { afterEach, beforeEach, expect, it } from 'vitest'
import type { LiveSession, Presence } from '../presence/presence.ts'
import { connectPacket, RawClient } from './testing/raw-client.ts'
import { startTestSource, type TestSource } from './testing/source.ts'

let test: TestSource
let told: [what: string, device: string, reason?: string][]
let epochs: Map<string, number[]>
const clients: RawClient[] = []

const presence: Presence = {
  connected({ tenant, device }, client, epoch) {
    told.push(['connected', device])
    epochs.set(client, [...(epochs.get(client) ?? []), epoch])
    return { id: '', tenant, device, client, epoch, connectedUs: 0 }
  },
  ended({ device }: LiveSession, kind, reason) {
    told.push([kind, device, reason])
  },
  write() {},
}

beforeEach(async () => {
  told = []
  epochs = new Map()
  test = await startTestSource({}, undefined, { presence })
})
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy()
  await test[Symbol.asyncDispose]()
})

async function come(device: string): Promise<RawClient> {
  const client = await RawClient.open(test.port, 4)
  clients.push(client)
  client.send(connectPacket(device, 4))
  await client.next('connack')
  return client
}

it('tells those who say goodbye from those who are lost', async () => {
  const polite = await come('polite')
  polite.send({ cmd: 'disconnect' })
  const rude = await come('rude')
  rude.destroy()
  await expect.poll(() => told).toHaveLength(4)
  expect(told).toContainEqual(['disconnected', 'polite', 'client_disconnected'])
  expect(told).toContainEqual(['lost', 'rude', 'lost'])
})

it('gives the connection that takes over a higher epoch than that of the one that ends', async () => {
  const first = await come('twin')
  await come('twin')
  await first.closed()
  expect(told).toEqual([
    ['connected', 'twin'],
    ['disconnected', 'twin', 'taken_over'],
    ['connected', 'twin'],
  ])
  const [one = 0, other = 0] = epochs.get('twin') ?? []
  expect(other).toBeGreaterThan(one)
})

it('says nothing of who was not let in, and of all when it stops', async () => {
  const stranger = await RawClient.open(test.port, 4)
  clients.push(stranger)
  stranger.send({ ...connectPacket('stranger', 4), password: Buffer.from('wrong') } as never)
  await stranger.closed()
  await come('pump-1')
  await test[Symbol.asyncDispose]()
  expect(told).toEqual([
    ['connected', 'pump-1'],
    ['disconnected', 'pump-1', 'shutting_down'],
  ])
})
