import { expect, it } from 'vitest'
import { costOf, policyOf } from './rate-limiter.contract.ts'
import type { Cost } from './rate-limiter.ts'
import { TokenBuckets } from './token-buckets.ts'

/** Plays devices that send so many messages a second each, refused ones thrown away, and says how many of each passed. */
function play(
  buckets: TokenBuckets,
  senders: readonly { device: string; perSecond: number; readings?: number }[],
  seconds: number,
) {
  const passed = new Map<string, number>(senders.map(({ device }) => [device, 0]))
  for (let nowMs = 0; nowMs < seconds * 1000; nowMs++) {
    const costs: Cost[] = []
    for (const [index, { device, perSecond, readings }] of senders.entries()) {
      // Each in its own phase.
      const due = (ms: number) => Math.floor(((ms + index * 7.7) * perSecond) / 1000)
      for (let count = due(nowMs) - due(nowMs - 1); count > 0; count--)
        costs.push(costOf('default', device, readings === undefined ? {} : { messages: 0, readings }))
    }
    const waits = buckets.take(costs, nowMs)
    for (const [index, { device }] of costs.entries())
      if (waits[index] === undefined) passed.set(device as string, (passed.get(device as string) ?? 0) + 1)
  }
  return passed
}

const quietOnes = (count: number) =>
  Array.from({ length: count }, (_, index) => ({ device: `quiet-${index}`, perSecond: 1 }))

it('lets quiet devices have all they ask while one floods the tenant, and the flood what is left', () => {
  const buckets = new TokenBuckets(policyOf({ tenant: '200:1' }))
  const passed = play(buckets, [{ device: 'flood', perSecond: 5000 }, ...quietOnes(100)], 20)
  const quiet = [...passed].filter(([device]) => device !== 'flood').map(([, count]) => count)
  expect(Math.min(...quiet), 'of 20').toBeGreaterThanOrEqual(18)
  expect(passed.get('flood')).toBeGreaterThan(0.9 * 100 * 20)
  const all = [...passed.values()].reduce((sum, count) => sum + count, 0)
  expect(all, 'no token is wasted').toBeGreaterThanOrEqual(200 * 20)
  expect(all).toBeLessThanOrEqual(200 + 200 * 20)
})

it('shares equally among those who all want more', () => {
  const buckets = new TokenBuckets(policyOf({ tenant: '100:1' }))
  const speeds = [20, 200, 2000, 50, 500]
  const passed = play(
    buckets,
    speeds.map((perSecond, index) => ({ device: `pump-${index}`, perSecond })),
    30,
  )
  for (const [device, count] of passed) {
    expect(count, device).toBeGreaterThan(30 * 20 * 0.75)
    expect(count, device).toBeLessThan(30 * 20 * 1.4)
  }
})

it('lets a modest device with large costs have its turn among small ones', () => {
  const buckets = new TokenBuckets(policyOf({ tenantReadings: '100:1' }))
  const small = Array.from({ length: 4 }, (_, index) => ({ device: `small-${index}`, perSecond: 500, readings: 1 }))
  const passed = play(buckets, [{ device: 'large', perSecond: 1, readings: 80 }, ...small], 60)
  expect((passed.get('large') ?? 0) * 80, 'near its fifth of 6000').toBeGreaterThan(0.6 * 1200)
})

it('tells those who go beyond their part when their turn comes, and the others when there is a token', () => {
  const buckets = new TokenBuckets(policyOf({ tenant: '100:1' }))
  const flood = Array.from({ length: 50 }, (_, index) => ({ device: `flood-${index}`, perSecond: 20 }))
  play(buckets, flood, 5)
  const costs = flood.map(({ device }) => costOf('default', device))
  const waits = buckets.take([...costs, ...costs], 5000).slice(50)
  expect(new Set(waits.map((wait) => wait?.limit))).toEqual(new Set(['tenant']))
  const turns = waits.map((wait) => wait?.ms ?? 0)
  expect(Math.max(...turns), 'fifty wait for a hundred a second').toBeLessThanOrEqual(510)
  expect(new Set(turns).size, 'each its own').toBeGreaterThan(25)
  const [newcomer] = buckets.take([costOf('default', 'new-here')], 5000)
  expect(newcomer?.ms ?? 0, 'the next token').toBeLessThanOrEqual(20)
})

it('gives one who is alone all of it, and the whole burst again when the others have gone', () => {
  const buckets = new TokenBuckets(policyOf({ tenant: '100:1' }))
  expect(play(buckets, [{ device: 'alone', perSecond: 1000 }], 10).get('alone')).toBeGreaterThanOrEqual(1099)
  play(new TokenBuckets(policyOf({ tenant: '100:1' })), quietOnes(10), 1)
  const burst = Array.from({ length: 120 }, () => costOf('default', 'alone'))
  expect(buckets.take(burst, 60_000).filter((wait) => wait === undefined).length).toBe(100)
})

it('counts endless device names as one', () => {
  const buckets = new TokenBuckets(policyOf({ tenant: '10:1' }))
  let passed = 0
  for (let step = 0; step < 40_000; step++)
    if (buckets.take([costOf('default', `name-${step}`)], step / 10)[0] === undefined) passed++
  expect(passed).toBeLessThanOrEqual(10 + 40)
  expect(buckets.take([costOf('default', 'name-39999')], 4001)[0]?.ms).toBeGreaterThan(1)
})
