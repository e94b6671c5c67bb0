import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { freePort } from '#test/servers/free-port.ts'
import { type RedisServer, startRedis } from '#test/servers/redis.ts'
import { leaseSize } from './lease.ts'
import { costOf, newTenant, testRateLimiter } from './rate-limiter.contract.ts'
import type { RateLimiter } from './rate-limiter.ts'
import { eventually, messages, passed, patient, startLimiter as startLimiterAt } from './redis-rate-limiter.fixture.ts'

let server: RedisServer
let admin: Redis

beforeAll(async () => {
  server = await startRedis()
  admin = new Redis(server.url, { retryStrategy: () => 50, maxRetriesPerRequest: null })
  admin.on('error', () => undefined) // tests below kill the server
})

afterAll(async () => {
  admin.disconnect()
  await server.close()
})

/** On the server of this file, unless another is given. */
const startLimiter = (limits: Parameters<typeof startLimiterAt>[0], more: { url?: string; answerMs?: number } = {}) =>
  startLimiterAt(limits, { url: server.url, ...more })

describe('contract', () => {
  testRateLimiter(
    'redis',
    async (policy) => (await startLimiter(policy, patient)).limiter,
    (burst) => leaseSize({ burst }),
  )
})

describe('Redis that answers', () => {
  it('is one budget for all gateways, which know of each other', async () => {
    await admin.flushall()
    const [one, two] = await Promise.all([
      startLimiter({ device: '10:3600' }, patient),
      startLimiter({ device: '10:3600' }, patient),
    ])
    const tenant = newTenant()
    expect(one.limiter.kind).toBe('redis')
    const counts = await Promise.all([one, two, one, two].map(({ limiter }) => passed(limiter, messages(tenant, 4))))
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(10)
    expect(await one.fallbacks()).toBe(0)
    expect(await one.isLocal()).toBe(false)
    await eventually('both count two', async () => (await one.gateways()) === 2 && (await two.gateways()) === 2)
    await two.limiter.close()
    await eventually('the one that closed is gone', async () => (await one.gateways()) === 1, 5000)
  })

  it('counts out a gateway that fell silent', async () => {
    await admin.flushall()
    await admin.zadd(
      'fleetbridge:limit:gateways',
      Date.now() - 5500,
      'silent',
      Date.now() + 3_600_000,
      'from the future',
    )
    const { gateways } = await startLimiter({ device: '10:3600' }, patient)
    expect(await gateways()).toBe(2)
    await eventually('it is counted out', async () => (await gateways()) === 1, 5000)
  })

  it('lets every key die when its bucket is full again, and remembers nothing of a refusal', async () => {
    await admin.flushall()
    const { limiter } = await startLimiter({ device: '10:20,5:1', tenantBytes: '100:10' }, patient)
    const tenant = newTenant()
    const cost = costOf(tenant, 'pump-1', { bytes: 50 })
    expect(await passed(limiter, [cost, cost])).toBe(2)
    const ttls: Record<string, number> = {}
    for (const key of await admin.keys('*')) ttls[key.replace(tenant, 'T')] = await admin.pttl(key)
    const { 'fleetbridge:limit:gateways': gateways, ...buckets } = ttls
    expect(gateways).toBeGreaterThan(0)
    const expected: Record<string, number> = {
      'fleetbridge:limit:device:10:20:T/pump-1': 4000,
      'fleetbridge:limit:device:5:1:T/pump-1': 400,
      'fleetbridge:limit:tenant_bytes:100:10:T/': 10_000,
    }
    expect(Object.keys(buckets).sort()).toEqual(Object.keys(expected).sort())
    for (const [key, ttl] of Object.entries(buckets)) {
      expect(ttl, key).toBeGreaterThan(0)
      expect(ttl, key).toBeLessThanOrEqual(expected[key] as number)
    }
    const before = await admin.info('commandstats')
    expect(await passed(limiter, [cost, cost])).toBe(0)
    expect(setsIn(await admin.info('commandstats'))).toBe(setsIn(before))
  })

  it('asks once for a whole batch, and not at all when nothing is limited', async () => {
    const { limiter } = await startLimiter({ device: '100000:1', tenant: '100000:1' }, patient)
    const tenant = newTenant()
    await passed(limiter, messages(tenant, 1))
    const before = callsOf(await admin.info('commandstats'), 'evalsha')
    const costs = Array.from({ length: 1000 }, (_, index) => costOf(tenant, `pump-${index % 300}`))
    expect(await passed(limiter, costs)).toBe(1000)
    const readings = costs.map((cost) => ({ ...cost, messages: 0, readings: 5 }))
    expect(await passed(limiter, readings)).toBe(1000)
    const calls = callsOf(await admin.info('commandstats'), 'evalsha') - before
    expect(calls, 'one take, and at most one heartbeat').toBeLessThanOrEqual(2)
  })

  it('goes on after FLUSHALL and SCRIPT FLUSH', async () => {
    const { limiter, fallbacks, lines } = await startLimiter({ device: '5:3600' }, patient)
    const tenant = newTenant()
    expect(await passed(limiter, messages(tenant, 6))).toBe(5)
    await admin.flushall()
    expect(await passed(limiter, messages(tenant, 6)), 'a refusal is remembered').toBe(0)
    await sleep(1050)
    expect(await passed(limiter, messages(tenant, 6)), 'its budget begins anew').toBe(5)
    await admin.script('FLUSH')
    expect(await passed(limiter, messages(newTenant(), 6))).toBe(5)
    expect(await fallbacks()).toBe(0)
    expect(lines.length, lines.join('')).toBe(1)
  })

  it('reads damaged buckets, and those of a clock that went back, without stopping', async () => {
    const { limiter, fallbacks } = await startLimiter({ device: '5:1' }, patient)
    const tenant = newTenant()
    await admin.set(`fleetbridge:limit:device:5:1:${tenant}/pump-1`, 'damaged')
    expect(await passed(limiter, messages(tenant, 6))).toBe(5)
    const other = newTenant()
    const key = `fleetbridge:limit:device:5:1:${other}/pump-1`
    const ahead = Buffer.alloc(16)
    ahead.writeDoubleLE(5, 0)
    ahead.writeDoubleLE((Date.now() + 3_600_000) * 1000, 8)
    await admin.set(key, ahead)
    expect(await passed(limiter, messages(other, 6)), 'still empty').toBe(0)
    await sleep(1050)
    expect(await passed(limiter, messages(other, 6)), 'but refilling').toBe(5)
    const third = newTenant()
    await admin.lpush(`fleetbridge:limit:device:5:1:${third}/pump-1`, 'another type')
    expect(await passed(limiter, messages(third, 6))).toBe(5)
    expect(await fallbacks()).toBe(0)
  })
})

describe('Redis that does not answer', () => {
  it('frozen: the local share answers within the timeout, and the shared budget returns', async () => {
    await admin.flushall()
    const limits = { device: '10:3600', tenant: '1000:3600' }
    const [one, two] = await Promise.all([startLimiter(limits), startLimiter(limits)])
    const tenant = newTenant()
    await eventually('both count two', async () => (await one.gateways()) === 2 && (await two.gateways()) === 2)
    expect(await passed(one.limiter, messages(tenant, 3))).toBe(3)
    server.pause()
    try {
      expect(await passed(one.limiter, messages(tenant, 8)), 'half of ten').toBe(5)
      expect(await one.fallbacks('timeout')).toBe(8)
      expect(await one.isLocal()).toBe(true)
      const startedMs = performance.now()
      for (let call = 0; call < 500; call++) expect(await passed(one.limiter, messages(tenant, 2))).toBe(0)
      expect(performance.now() - startedMs, 'nobody waits for Redis any more').toBeLessThan(1000)
      expect(await one.fallbacks()).toBe(1008)
      expect(await passed(two.limiter, messages(tenant, 8))).toBe(5)
      await sleep(3000) // past the silence after which the connection is given up
      expect(await passed(one.limiter, messages(newTenant(), 8))).toBe(5)
    } finally {
      server.resume()
    }
    await eventually('it is shared again', async () => !(await one.isLocal()) && !(await two.isLocal()))
    const before = await one.fallbacks()
    expect(await passed(one.limiter, messages(newTenant(), 12))).toBe(10)
    expect(await one.fallbacks()).toBe(before)
    expect(one.lines.length, one.lines.join('')).toBe(3)
  })

  it('killed and started again: local at once, then shared', async () => {
    const { limiter, fallbacks, isLocal, lines } = await startLimiter({ device: '10:3600' }, patient)
    await server.kill('SIGKILL')
    try {
      await eventually('it notices without being asked', isLocal, 3000)
      const startedMs = performance.now()
      for (let call = 0; call < 300; call++) await passed(limiter, messages(newTenant(), 1))
      expect(performance.now() - startedMs).toBeLessThan(1000)
      expect(await fallbacks('unreachable')).toBe(300)
      await sleep(1500)
    } finally {
      await server.restart()
    }
    await eventually('it is shared again', async () => !(await isLocal()), 5000)
    expect(await passed(limiter, messages(newTenant(), 12))).toBe(10)
    expect(await fallbacks()).toBe(300)
    expect(lines.length, lines.join('')).toBe(3)
    expect(lines[1]).toContain('unreachable')
  })

  it('killed in the middle of a call: the call is answered', async () => {
    const { limiter, fallbacks } = await startLimiter({ device: '10:3600' }, patient)
    server.pause()
    const answer = passed(limiter, messages(newTenant(), 12))
    await sleep(20)
    await server.kill('SIGKILL')
    expect(await answer).toBe(10)
    expect(await fallbacks('unreachable')).toBe(12)
    await server.restart()
  })

  it('full: an error is answered locally, and Redis is asked seldom', async () => {
    const { limiter, fallbacks, isLocal, lines } = await startLimiter({ device: '10:3600' }, patient)
    const tenant = newTenant()
    expect(await passed(limiter, messages(tenant, 1))).toBe(1)
    await admin.config('SET', 'maxmemory', '1')
    try {
      expect(await passed(limiter, messages(tenant, 12))).toBe(10)
      expect(await fallbacks('error')).toBe(12)
      expect(lines.at(-1)).toContain('OOM')
      const before = callsOf(await admin.info('commandstats'), 'evalsha')
      const endMs = performance.now() + 1500
      while (performance.now() < endMs) {
        await passed(limiter, messages(tenant, 1))
        await sleep(1)
      }
      expect(await isLocal()).toBe(true)
      expect(callsOf(await admin.info('commandstats'), 'evalsha') - before).toBeLessThanOrEqual(6)
    } finally {
      await admin.config('SET', 'maxmemory', '0')
    }
    await eventually('it is shared again', async () => !(await isLocal()), 5000)
    expect(await passed(limiter, messages(tenant, 12)), 'one was spent').toBe(9)
  })

  it('read-only, as the former primary after a failover: local until it can write', async () => {
    const { limiter, fallbacks, isLocal, lines } = await startLimiter({ device: '10:3600' }, patient)
    await admin.replicaof('127.0.0.1', await freePort())
    try {
      expect(await passed(limiter, messages(newTenant(), 12))).toBe(10)
      expect(await fallbacks('error')).toBe(12)
      expect(lines.at(-1)).toContain('READONLY')
      const before = callsOf(await admin.info('commandstats'), 'evalsha')
      await sleep(1500)
      expect(callsOf(await admin.info('commandstats'), 'evalsha') - before).toBeLessThanOrEqual(6)
      expect(await isLocal()).toBe(true)
    } finally {
      await admin.replicaof('NO', 'ONE')
    }
    await eventually('it is shared again', async () => !(await isLocal()), 6000)
  })

  it('away at the start: starts on the local share, and finds it later', async () => {
    const port = await freePort()
    const startedMs = performance.now()
    const { limiter, fallbacks, isLocal, gateways } = await startLimiter(
      { device: '10:3600' },
      { url: `redis://127.0.0.1:${port}` },
    )
    expect(performance.now() - startedMs).toBeLessThan(2000)
    expect(await isLocal()).toBe(true)
    expect(await gateways()).toBe(1)
    expect(await passed(limiter, messages(newTenant(), 12))).toBe(10)
    expect(await fallbacks('unreachable')).toBe(12)
    await using late = await startRedis({ port })
    await eventually('it is shared', async () => !(await isLocal()), 6000)
    expect(await passed(limiter, messages(newTenant(), 12))).toBe(10)
    expect(await fallbacks()).toBe(12)
    expect(late.port).toBe(port)
  })

  it('somebody who accepts connections and says nothing: starts, answers, closes', async () => {
    const mute = createServer((socket) => socket.on('error', () => undefined))
    mute.listen(0, '127.0.0.1')
    await once(mute, 'listening')
    const { port } = mute.address() as { port: number }
    const startedMs = performance.now()
    const { limiter, isLocal } = await startLimiter({ device: '10:3600' }, { url: `redis://127.0.0.1:${port}` })
    expect(performance.now() - startedMs).toBeLessThan(2000)
    expect(await isLocal()).toBe(true)
    expect(await passed(limiter, messages(newTenant(), 12))).toBe(10)
    await closesSoon(limiter)
    mute.close()
  })
})

describe('closing', () => {
  it('leaves nothing behind when Redis is up', async () => {
    await admin.flushall()
    const { limiter } = await startLimiter({ device: '10:3600' }, patient)
    expect(await admin.zcard('fleetbridge:limit:gateways')).toBe(1)
    await closesSoon(limiter)
    expect(await admin.zcard('fleetbridge:limit:gateways')).toBe(0)
    await eventually('its connection is gone', async () => {
      const clients = (await admin.client('LIST')) as string
      return !clients.includes('fleetbridge-gateway')
    })
  })

  it('does not wait for a frozen or dead Redis', async () => {
    const [one, two] = await Promise.all([startLimiter({ device: '10:1' }), startLimiter({ device: '10:1' })])
    server.pause()
    try {
      await closesSoon(one.limiter)
    } finally {
      server.resume()
    }
    await server.kill('SIGKILL')
    await eventually('it notices', two.isLocal)
    await closesSoon(two.limiter)
    await server.restart()
    expect(one.lines.length, 'a close is no change of state').toBe(1)
  })
})

describe('secrets', () => {
  const password = `p@ss/${randomUUID()}`

  it('never logs the password, right or wrong', async () => {
    await using locked = await startRedis()
    const key = new Redis(locked.url)
    await key.config('SET', 'requirepass', password)
    key.disconnect()
    const url = (secret: string) => `redis://:${encodeURIComponent(secret)}@127.0.0.1:${locked.port}`
    const right = await startLimiter({ device: '10:3600' }, { url: url(password) })
    expect(await right.isLocal()).toBe(false)
    expect(await passed(right.limiter, messages(newTenant(), 12))).toBe(10)
    const wrong = await startLimiter({ device: '10:3600' }, { url: url(`${password}x`) })
    expect(await wrong.isLocal()).toBe(true)
    expect(wrong.lines.join('')).toContain('WRONGPASS')
    await locked.kill('SIGKILL')
    await eventually('it notices', right.isLocal)
    await sleep(500)
    for (const line of [...right.lines, ...wrong.lines]) {
      expect(line).toContain(`127.0.0.1:${locked.port}`)
      expect(line).not.toContain(password)
      expect(line).not.toContain(encodeURIComponent(password))
    }
    await Promise.all([right.limiter.close(), wrong.limiter.close()])
  })
})

async function closesSoon(limiter: RateLimiter): Promise<void> {
  const startedMs = performance.now()
  await limiter.close()
  expect(performance.now() - startedMs).toBeLessThan(1500)
}

const setsIn = (stats: string) => callsOf(stats, 'set')

function callsOf(stats: string, command: string): number {
  return Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(stats)?.[1] ?? 0)
}
