import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { freePort } from '#test/servers/free-port.ts'
import { type RedisServer, startRedis } from '#test/servers/redis.ts'
import { newTenant } from './rate-limiter.contract.ts'
import { eventually, messages, passed, patient, startLimiter } from './redis-rate-limiter.fixture.ts'

let server: RedisServer

beforeAll(async () => {
  server = await startRedis()
})

afterAll(() => server.close())

/** A network between limiter and Redis: it can swallow what established connections carry, and lead new ones elsewhere. */
async function startNetwork(port: number) {
  const links = new Set<Socket>()
  const network = {
    port,
    url: '',
    swallow() {
      for (const socket of links) socket.unpipe().on('data', () => undefined)
    },
    async [Symbol.asyncDispose]() {
      for (const socket of links) socket.destroy()
      listener.close()
      await once(listener, 'close')
    },
  }
  const listener = createServer((near) => {
    const far = connect(network.port, '127.0.0.1')
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      links.add(from)
      from.pipe(to)
      from.on('error', () => to.destroy())
      from.on('close', () => links.delete(from))
    }
  })
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  network.url = `redis://127.0.0.1:${(listener.address() as { port: number }).port}`
  return network
}

it('leaves a connection that was cut without a word, and finds Redis on a new one', async () => {
  await using network = await startNetwork(server.port)
  const { limiter, isLocal, fallbacks } = await startLimiter({ device: '10:3600' }, network)
  expect(await isLocal()).toBe(false)
  network.swallow()
  expect(await passed(limiter, messages(newTenant(), 12))).toBe(10)
  expect(await fallbacks('timeout')).toBe(12)
  await eventually('it is shared again', async () => !(await isLocal()), 10_000)
  expect(await passed(limiter, messages(newTenant(), 12))).toBe(10)
  expect(await fallbacks()).toBe(12)
  await limiter.close()
})

it('leaves a primary that has become a replica when its address leads to the new one', async () => {
  await using heir = await startRedis()
  await using network = await startNetwork(server.port)
  const { limiter, isLocal, fallbacks } = await startLimiter({ device: '10:3600' }, { ...patient, url: network.url })
  const former = new Redis(server.url)
  await former.replicaof('127.0.0.1', await freePort())
  former.disconnect()
  network.port = heir.port
  expect(await passed(limiter, messages(newTenant(), 12))).toBe(10)
  expect(await fallbacks('error')).toBe(12)
  await eventually('the new primary counts', async () => !(await isLocal()), 10_000)
  expect(await passed(limiter, messages(newTenant(), 12))).toBe(10)
  expect(await fallbacks()).toBe(12)
  await limiter.close()
})
