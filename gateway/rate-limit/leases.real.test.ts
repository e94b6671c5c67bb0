import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type RedisServer, startRedis } from '#test/servers/redis.ts'
import type { LimitPolicy } from './limit-policy.ts'
import { costOf, newTenant, policyOf } from './rate-limiter.contract.ts'
import type { RateLimiter } from './rate-limiter.ts'
import { eventually, messages, passed, patient, startLimiter as startLimiterAt } from './redis-rate-limiter.fixture.ts'

let server: RedisServer
let admin: Redis

beforeAll(async () => {
  server = await startRedis()
  admin = new Redis(server.url)
})

afterAll(async () => {
  admin.disconnect()
  await server.close()
})

const startLimiter = async (limits: Parameters<typeof startLimiterAt>[0]): Promise<RateLimiter> =>
  (await startLimiterAt(limits, { url: server.url, ...patient })).limiter

/** Calls of the script so far, heartbeats included. */
async function calls(): Promise<number> {
  const stats = await admin.info('commandstats')
  return Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)?.[1] ?? 0)
}

const key = (limit: string, window: string, tenant: string, payer: string) =>
  `fleetbridge:limit:${limit}:${window}:${tenant}/${payer}`

/** Tokens gone of a bucket, as Redis has it written. */
async function used(name: string): Promise<number> {
  return (await admin.getBuffer(name))?.readDoubleLE(0) ?? 0
}

describe('a lease', () => {
  it('answers most takes without a call, in step with the event loop', async () => {
    const limiter = await startLimiter({ device: '1000:1', tenant: '10000:1' })
    const tenant = newTenant()
    await passed(limiter, messages(tenant, 1))
    const before = await calls()
    let atOnce = 0
    for (let round = 0; round < 500; round++) {
      const take = limiter.take(messages(tenant, 1))
      let isSettled = false
      void take.then(() => (isSettled = true))
      await Promise.resolve() // no turn of the event loop, in which Redis could answer
      if (isSettled) atOnce++
      expect(await take).toEqual([undefined])
      await sleep(2)
    }
    expect(atOnce).toBeGreaterThan(400)
    expect((await calls()) - before, 'for 500 messages, with a heartbeat now and then').toBeLessThan(130)
  })

  it('tops up many devices in one call', async () => {
    const limiter = await startLimiter({ device: '1000:1' })
    const tenant = newTenant()
    const all = (count: number) =>
      Array.from({ length: 400 * count }, (_, index) => costOf(tenant, `pump-${index % 400}`))
    await passed(limiter, all(1)) // each asks for what it needs
    await sleep(2)
    const before = await calls()
    await passed(limiter, all(1)) // and once more
    await sleep(100) // then, coming often, each gets a lease
    const after = await calls()
    expect(after - before, 'and a heartbeat').toBeLessThanOrEqual(3)
    expect(await passed(limiter, all(9))).toBe(3600)
    expect((await calls()) - after, 'nothing but a heartbeat').toBeLessThanOrEqual(1)
  })

  it('goes back when nobody spends it, and at the close', async () => {
    const [limiter, other] = [
      await startLimiter({ device: '200:100000' }),
      await startLimiter({ device: '200:100000' }),
    ]
    const tenant = newTenant()
    const name = key('device', '200:100000', tenant, 'pump-1')
    for (const gateway of [limiter, other]) {
      await passed(gateway, messages(tenant, 1))
      await sleep(2)
      await passed(gateway, messages(tenant, 1))
    }
    await eventually('four spent, ten in hand on each', async () => Math.round(await used(name)) === 24, 1000)
    await other.close()
    expect(Math.round(await used(name))).toBe(14)
    await eventually('the rest goes back', async () => Math.round(await used(name)) === 4, 6000)
    expect(await passed(limiter, messages(tenant, 200))).toBe(196)
  })

  it('is none for one who comes seldom: it would be sent back each time', async () => {
    const limiter = await startLimiter({ device: '200:100000' })
    const tenant = newTenant()
    await passed(limiter, messages(tenant, 3))
    await sleep(2100)
    await passed(limiter, messages(tenant, 2))
    expect(Math.round(await used(key('device', '200:100000', tenant, 'pump-1')))).toBe(5)
  })

  it('takes nothing of one window when another says no', async () => {
    const limits = { device: '40:3600', tenantBytes: '1000:3600' }
    const [limiter, other] = [await startLimiter(limits), await startLimiter(limits)]
    const tenant = newTenant()
    expect(await passed(other, [costOf(tenant, 'pump-2', { messages: 0, bytes: 990 })])).toBe(1)
    const refused = Array.from({ length: 30 }, () => costOf(tenant, 'pump-1', { bytes: 100 }))
    expect(await passed(limiter, refused)).toBe(0)
    const name = key('device', '40:3600', tenant, 'pump-1')
    await eventually('what was granted in vain goes back', async () => (await used(name)) < 3, 2000)
    expect(await passed(other, messages(tenant, 41))).toBeGreaterThanOrEqual(38)
  })

  it('puts back what is given back', async () => {
    const limiter = await startLimiter({ device: '10:3600', tenant: '10:3600' })
    const tenant = newTenant()
    const ten = messages(tenant, 10)
    expect(await passed(limiter, ten)).toBe(10)
    limiter.giveBack(ten.slice(0, 6))
    const name = key('tenant', '10:3600', tenant, '')
    await eventually('Redis has them', async () => Math.round(await used(name)) === 4, 2000)
    expect(await passed(limiter, messages(tenant, 10))).toBe(6)
  })
})

describe('a refusal', () => {
  it('is remembered: a flood over its limit asks once a second', async () => {
    const limiter = await startLimiter({ device: '10:60' })
    const tenant = newTenant()
    await passed(limiter, messages(tenant, 20))
    const before = await calls()
    const endMs = performance.now() + 3000
    let flood = 0
    while (performance.now() < endMs) {
      flood += 50
      await passed(limiter, messages(tenant, 50))
      await sleep(1)
    }
    expect(flood).toBeGreaterThan(5000)
    expect((await calls()) - before, 'and heartbeats').toBeLessThanOrEqual(6)
  })

  it('at a high rate asks for many tokens at a time', async () => {
    const limiter = await startLimiter({ device: '1000:1' })
    const tenant = newTenant()
    await passed(limiter, messages(tenant, 2000))
    const before = await calls()
    let admitted = 0
    const startMs = performance.now()
    while (performance.now() < startMs + 2000) {
      admitted += await passed(limiter, messages(tenant, 20))
      await new Promise(setImmediate)
    }
    const seconds = (performance.now() - startMs) / 1000
    expect(admitted).toBeGreaterThan(700 * seconds)
    expect((await calls()) - before, 'at most every 5 ms').toBeLessThan(220 * seconds + 5)
  })
})

describe('several gateways', () => {
  it('share a tenant fairly: a flood on one leaves the quiet devices of another alone', {
    timeout: 20_000,
  }, async () => {
    const limits = { tenant: '200:1' }
    const [loud, quiet] = [await startLimiter(limits), await startLimiter(limits)]
    await sleep(2100) // until both count two
    const tenant = newTenant()
    const endMs = performance.now() + 5000
    const counts = { flood: 0, asked: 0, passed: 0 }
    const flood = async () => {
      while (performance.now() < endMs) {
        const waits = await loud.take(Array.from({ length: 30 }, () => costOf(tenant, 'flood')))
        counts.flood += waits.filter((wait) => wait === undefined).length
        await sleep(3)
      }
    }
    const trickle = async () => {
      await sleep(1000) // the flood has emptied the bucket by then
      for (let turn = 0; performance.now() < endMs; turn++) {
        counts.asked++
        if ((await quiet.take([costOf(tenant, `quiet-${turn % 20}`)]))[0] === undefined) counts.passed++
        await sleep(25)
      }
    }
    await Promise.all([flood(), trickle()])
    expect(counts.asked).toBeGreaterThan(80)
    // The first are refused before the flood is known to be one.
    expect(counts.passed / counts.asked).toBeGreaterThan(0.9)
    expect(counts.flood, 'what the quiet ones leave').toBeGreaterThan(5 * 200 * 0.5)
  })

  it('with a window that changed: the next take is judged by the new one', async () => {
    const policies: Record<string, LimitPolicy> = {
      old: policyOf({ device: '20:3600' }),
      new: policyOf({ device: '5:3600' }),
    }
    let current = 'old'
    const policy: LimitPolicy = { rulesOf: (...owner) => (policies[current] as LimitPolicy).rulesOf(...owner) }
    const limiter = await startLimiter(policy)
    const tenant = newTenant()
    expect(await passed(limiter, messages(tenant, 10))).toBe(10)
    current = 'new'
    expect(await passed(limiter, messages(tenant, 10))).toBe(5)
    current = 'old'
    expect(await passed(limiter, messages(tenant, 20)), 'its bucket was kept').toBe(10)
  })
})

describe('levels', () => {
  it('tell what is left over all gateways; known what this one heard', async () => {
    const limits = { device: '100:3600,300:7200', fleet: '50:60', tenant: '1000:3600' }
    const [limiter, other] = [await startLimiter(limits), await startLimiter(limits)]
    const tenant = newTenant()
    await passed(limiter, messages(tenant, 10))
    await passed(other, messages(tenant, 20))
    const levels = await limiter.levels(tenant, 'pump-1', undefined)
    expect(levels.map(({ limit, burst, seconds, left }) => [limit, burst, seconds, left])).toEqual([
      ['device', 100, 3600, 70],
      ['device', 300, 7200, 270],
      ['tenant', 1000, 3600, 970],
    ])
    expect(levels[0]?.resetMs).toBeGreaterThan(1_070_000)
    expect(levels[0]?.resetMs).toBeLessThanOrEqual(1_080_000)
    expect(limiter.known(tenant, 'pump-1', undefined)[0]?.left).toBe(90)
    expect(other.known(tenant, 'nobody', 'gw-1').map(({ limit, left }) => [limit, left])).toEqual([
      ['device', 100],
      ['device', 300],
      ['fleet', 50],
      ['tenant', 970],
    ])
    expect((await other.levels(tenant, 'nobody', 'gw-1')).map(({ left }) => left)).toEqual([100, 300, 50, 970])
    expect(await admin.exists(key('device', '100:3600', tenant, 'nobody')), 'a look makes no key').toBe(0)
  })
})
