import { randomInt, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import type { Config } from '#platform/config-schema.ts'
import { configuredPolicy, type LimitPolicy } from './limit-policy.ts'
import { rulesOf } from './limits.ts'
import type { Cost, RateLimiter, Wait } from './rate-limiter.ts'

type Limits = Config['limits']

/** All limits off but those that are given. */
export function limitsOf(given: Partial<Limits>): Limits {
  const none = 'none'
  return {
    device: none,
    deviceReadings: none,
    deviceBytes: none,
    fleet: none,
    fleetReadings: none,
    fleetBytes: none,
    tenant: none,
    tenantReadings: none,
    tenantBytes: none,
    all: none,
    allReadings: none,
    allBytes: none,
    catchUpDevice: none,
    catchUpFleet: none,
    catchUpTenant: none,
    firstSightDevices: 100_000,
    firstSightPerMinute: 60,
    ...given,
  }
}

export const policyOf = (given: Partial<Limits>): LimitPolicy => configuredPolicy(rulesOf(limitsOf(given)))

/** A tenant of its own, since tests of one adapter may share a server. */
export const newTenant = () => `t-${randomUUID()}`

export function costOf(tenant: string, device: string | undefined, given: Partial<Cost> = {}): Cost {
  return { tenant, device, fleet: undefined, messages: 1, readings: 0, bytes: 0, ...given }
}

/**
 * What every RateLimiter promises. Each adapter's test file calls this; adapter-only facts follow it there.
 * @param lease tokens of a burst that it may have in hand beyond what it counts
 */
export function testRateLimiter(
  name: string,
  start: (policy: LimitPolicy) => Promise<RateLimiter>,
  lease: (burst: number) => number = () => 0,
): void {
  it(`${name}: gives every device and every tenant its own bucket`, async () => {
    await using limiter = await start(policyOf({ device: '1:3600' }))
    const [one, other] = [newTenant(), newTenant()]
    const waits = await limiter.take([
      costOf(one, 'pump-1'),
      costOf(one, 'pump-1'),
      costOf(one, 'pump-2'),
      costOf(other, 'pump-1'),
    ])
    expect(waits.map((wait) => wait === undefined)).toEqual([true, false, true, true])
    expect(waits[1]?.limit).toBe('device')
    expect(waits[1]?.ms).toBeGreaterThan(3_500_000)
    expect(waits[1]?.ms).toBeLessThanOrEqual(3_600_000)
  })

  it(`${name}: with no limits, or none that a cost asks, lets everything pass`, async () => {
    await using open = await start(policyOf({}))
    const tenant = newTenant()
    const flood = Array.from({ length: 500 }, () => costOf(tenant, 'pump-1', { readings: 1000, bytes: 1e6 }))
    expect((await open.take(flood)).filter(Boolean)).toEqual([])
    expect(await open.take([])).toEqual([])
    await using limiter = await start(
      policyOf({ device: '1:3600', deviceReadings: '1:3600', deviceBytes: '1:3600', fleet: '1:3600' }),
    )
    const nothing = costOf(tenant, 'pump-1', { messages: 0 })
    const tokens = costOf(tenant, 'pump-1', { messages: 1, readings: 1, bytes: 1 })
    const waits = await limiter.take([nothing, tokens, nothing, nothing, tokens, costOf(tenant, undefined)])
    expect(waits.map((wait) => wait === undefined)).toEqual([true, true, true, true, false, true])
  })

  it(`${name}: spends all or nothing`, async () => {
    await using limiter = await start(
      policyOf({ device: '2:3600', deviceReadings: '10:3600', tenantBytes: '100:3600' }),
    )
    const tenant = newTenant()
    const [first, readings, bytes, rest, last] = await limiter.take([
      costOf(tenant, 'pump-1', { readings: 8, bytes: 60 }),
      costOf(tenant, 'pump-1', { readings: 3, bytes: 1 }),
      costOf(tenant, 'pump-1', { readings: 2, bytes: 41 }),
      costOf(tenant, 'pump-1', { readings: 2, bytes: 40 }),
      costOf(tenant, 'pump-1'),
    ])
    expect(first).toBeUndefined()
    expect(readings?.limit).toBe('device_readings')
    expect(bytes?.limit).toBe('tenant_bytes')
    expect(rest, 'the refused ones took no message, no reading and no byte').toBeUndefined()
    expect(last?.limit).toBe('device')
  })

  it(`${name}: tells the longest wait and its limit`, async () => {
    await using limiter = await start(policyOf({ device: '1:60', fleet: '1:3600', tenantReadings: '1:600' }))
    const tenant = newTenant()
    const cost = costOf(tenant, 'child-1', { fleet: 'gw-1', readings: 1 })
    const [first, second] = await limiter.take([cost, cost])
    expect(first).toBeUndefined()
    expect(second?.limit).toBe('fleet')
    expect(second?.ms).toBeGreaterThan(3_500_000)
  })

  it(`${name}: lets the fleet and the tenant pay with the device, or the device alone`, async () => {
    await using limiter = await start(policyOf({ device: '1:3600', fleet: '2:3600', tenant: '3:3600' }))
    const tenant = newTenant()
    const child = { fleet: 'gw-1' }
    const waits = await limiter.take([
      costOf(tenant, undefined, child), // fleet 1, tenant 1
      costOf(tenant, 'child-1', { deviceOnly: true, ...child }), // child-1
      costOf(tenant, 'child-1', { deviceOnly: true, ...child }), // refused
      costOf(tenant, 'child-2', child), // child-2, fleet 2, tenant 2
      costOf(tenant, 'child-3', child), // refused: the fleet
      costOf(tenant, 'gw-1'), // as a device it has a bucket of its own: tenant 3
      costOf(tenant, 'pump-1'), // refused: the tenant
      costOf(tenant, 'child-3', { deviceOnly: true, ...child }), // child-3
    ])
    expect(waits.map((wait) => wait?.limit)).toEqual([
      undefined,
      undefined,
      'device',
      undefined,
      'fleet',
      undefined,
      'tenant',
      undefined,
    ])
  })

  it(`${name}: judges every cost of a call in order, also behind a refused one`, async () => {
    await using limiter = await start(policyOf({ deviceBytes: '10:3600' }))
    const tenant = newTenant()
    const bytes = [6, 6, 5, 4, 1, 0]
    const waits = await limiter.take(bytes.map((count) => costOf(tenant, 'pump-1', { bytes: count })))
    expect(waits.map((wait) => wait === undefined)).toEqual([true, false, false, true, false, true])
    expect(waits[1]?.ms, 'two are missing').toBeLessThanOrEqual(720_000)
    expect(waits[1]?.ms).toBeGreaterThan(700_000)
  })

  it(`${name}: holds every window`, async () => {
    await using limiter = await start(policyOf({ device: '5:1,7:3600' }))
    const tenant = newTenant()
    const six = Array.from({ length: 6 }, () => costOf(tenant, 'pump-1'))
    const first = await limiter.take(six)
    expect(first.map((wait) => wait === undefined)).toEqual([true, true, true, true, true, false])
    expect(first[5]?.ms, 'the short window').toBeLessThanOrEqual(200)
    await sleep(1100)
    const second = await limiter.take(six)
    expect(second.filter((wait) => wait === undefined).length, 'the long window').toBe(2)
    expect(second[5]?.ms).toBeGreaterThan(500_000)
  })

  it(`${name}: passes a cost above the burst from a full bucket only, and leaves a debt`, async () => {
    await using limiter = await start(policyOf({ deviceReadings: '10:2' }))
    const tenant = newTenant()
    const big = costOf(tenant, 'pump-1', { readings: 25 })
    const small = costOf(tenant, 'pump-1', { readings: 1 })
    const startedMs = performance.now()
    const [first, again, one, nothing] = await limiter.take([big, big, small, costOf(tenant, 'pump-1')])
    expect(first).toBeUndefined()
    expect(again?.ms, 'until it is full').toBe(5000)
    expect(one?.ms, 'until the debt and one more are paid').toBe(3200)
    expect(nothing, 'what asks for no reading does not wait for readings').toBeUndefined()
    await until(startedMs + 1500)
    const askedMs = performance.now()
    const [later] = await limiter.take([small])
    expect(later?.ms).toBeLessThanOrEqual(1700)
    expect(later?.ms).toBeGreaterThanOrEqual(Math.floor(3200 - (performance.now() - startedMs)))
    await until(askedMs + (later?.ms ?? 0) + 1)
    expect(await limiter.take([small])).toEqual([undefined])
  })

  it(`${name}: tells a wait after which the same cost passes, and not much before`, async () => {
    await using limiter = await start(policyOf({ device: '7:1', deviceBytes: '1000:1', tenant: '9:1' }))
    const tenant = newTenant()
    const cost = costOf(tenant, 'pump-1', { messages: 3, bytes: 410 })
    await limiter.take([cost, cost])
    for (let round = 0; round < 4; round++) {
      const [wait] = await limiter.take([cost])
      const answeredMs = performance.now()
      expect(wait?.ms).toBeGreaterThanOrEqual(1)
      await until(answeredMs + (wait as Wait).ms)
      expect(await limiter.take([cost]), `round ${round}`).toEqual([undefined])
      const [, more] = await limiter.take([cost, cost])
      expect(more, 'and one more does not').toBeDefined()
      // The extra cost may have passed when this process was slow; the next round waits for its own.
      if ((await limiter.take([cost]))[0] === undefined) await limiter.take([cost])
    }
  })

  it(`${name}: refills up to the burst and no further`, async () => {
    await using limiter = await start(policyOf({ device: '5:1' }))
    const tenant = newTenant()
    await limiter.take([costOf(tenant, 'pump-1')])
    await sleep(1500)
    const waits = await limiter.take(Array.from({ length: 8 }, () => costOf(tenant, 'pump-1')))
    expect(waits.filter((wait) => wait === undefined).length).toBe(5)
  })

  it(`${name}: keeps hostile names apart`, async () => {
    await using limiter = await start(policyOf({ device: '1:3600', fleet: '1:3600', tenant: '40:3600' }))
    const tenant = newTenant()
    const names = [
      '__proto__',
      'constructor',
      'toString',
      'a/b',
      'a',
      'a:b',
      ':',
      '/',
      '{a}',
      '}{',
      '%s %d',
      '\\"\'',
      ' ',
      '',
      '1',
      '*',
      '[a]',
      '\u{1F6F0}'.repeat(32),
      'ä'.repeat(64),
      'x'.repeat(128),
      '\r\n$1\r\n',
    ]
    const once = await limiter.take(names.map((device) => costOf(tenant, device)))
    expect(once.filter(Boolean), 'each has a bucket of its own').toEqual([])
    const twice = await limiter.take(names.map((device) => costOf(tenant, device)))
    expect(
      twice.every((wait) => wait?.limit === 'device'),
      'and it is empty now',
    ).toBe(true)
    const asFleet = await limiter.take(names.slice(0, 19).map((fleet) => costOf(tenant, undefined, { fleet })))
    expect(asFleet.filter(Boolean), 'a fleet of the same name is another owner').toEqual([])
    const [full] = await limiter.take([costOf(tenant, undefined)])
    expect(full?.limit, 'and so is the tenant').toBe('tenant')
  })

  it(`${name}: answers for thousands of costs in one call, each in its place`, async () => {
    await using limiter = await start(policyOf({ device: '3:3600', deviceBytes: '1000:3600', tenant: '4000:3600' }))
    const tenant = newTenant()
    const costs = Array.from({ length: 6500 }, (_, index) =>
      costOf(tenant, `pump-${index % 2000}`, { bytes: index % 7 === 0 ? 0 : 10, messages: index % 11 === 0 ? 0 : 1 }),
    )
    const waits = await limiter.take(costs)
    expect(waits.length).toBe(6500)
    const spent = new Map<string | undefined, number>()
    let ofTenant = 0
    for (const [index, { device, messages }] of costs.entries()) {
      const before = spent.get(device) ?? 0
      const fits = messages === 0 || (before < 3 && ofTenant < 4000)
      expect(waits[index] === undefined, `cost ${index}`).toBe(fits)
      if (!fits || messages === 0) continue
      spent.set(device, before + messages)
      ofTenant += messages
    }
  })

  it(`${name}: admits no more than the bound in any window`, { timeout: 60_000 }, async () => {
    const seed = randomInt(2 ** 31)
    console.info(`${name}: seed ${seed}`)
    const random = generator(seed)
    const rules = [
      { of: 'device', quantity: 'messages', burst: 20, perMs: 0.02 },
      { of: 'device', quantity: 'bytes', burst: 2000, perMs: 2 },
      { of: 'tenant', quantity: 'messages', burst: 50, perMs: 0.05 },
      { of: 'tenant', quantity: 'messages', burst: 70, perMs: 0.035 },
    ] as const
    await using limiter = await start(policyOf({ device: '20:1', deviceBytes: '2000:1', tenant: '50:1,70:2' }))
    const tenant = newTenant()
    const admitted: { device: string; messages: number; bytes: number; fromMs: number; toMs: number }[] = []
    const endMs = performance.now() + 3000
    while (performance.now() < endMs) {
      const costs = Array.from({ length: 1 + random(40) }, () =>
        costOf(tenant, `pump-${random(3)}`, { bytes: random(20) === 0 ? random(3000) : random(150) }),
      )
      const fromMs = performance.now()
      const waits = await limiter.take(costs)
      const toMs = performance.now()
      for (const [index, { device, messages, bytes }] of costs.entries())
        if (waits[index] === undefined) admitted.push({ device: device as string, messages, bytes, fromMs, toMs })
      await sleep(random(30))
    }
    expect(admitted.length, `seed ${seed}`).toBeGreaterThan(70)
    for (const { of, quantity, burst, perMs } of rules)
      for (const owner of of === 'tenant' ? [undefined] : ['pump-0', 'pump-1', 'pump-2']) {
        const mine = admitted.filter(({ device }) => owner === undefined || device === owner)
        for (let first = 0; first < mine.length; first++) {
          let sum = 0
          let largest: number = burst // one that is above the burst passes from a full bucket
          for (let last = first; last < mine.length; last++) {
            const one = mine[last] as (typeof mine)[number]
            sum += one[quantity]
            largest = Math.max(largest, one[quantity])
            const windowMs = one.toMs - (mine[first] as (typeof mine)[number]).fromMs
            if (sum > largest + perMs * windowMs + lease(burst) + 0.01)
              expect.fail(`seed ${seed}: ${sum} ${quantity} of ${owner ?? 'the tenant'} in ${windowMs} ms`)
          }
        }
      }
  })

  it(`${name}: closes twice`, async () => {
    const limiter = await start(policyOf({ device: '1:1' }))
    await Promise.all([limiter.close(), limiter.close()])
    await limiter.close()
  })
}

async function until(ms: number): Promise<void> {
  // A timer may fire a fraction of a millisecond early.
  while (performance.now() < ms) await sleep(Math.max(1, ms - performance.now()))
}

/** Whole numbers below a bound, the same for the same seed (mulberry32). */
export function generator(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below)
  }
}
