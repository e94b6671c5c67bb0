import { randomInt } from 'node:crypto'
import { expect, it } from 'vitest'
import { startMemoryRateLimiter } from './memory-rate-limiter.ts'
import { costOf, generator, policyOf, testRateLimiter } from './rate-limiter.contract.ts'
import { TokenBuckets } from './token-buckets.ts'

testRateLimiter('memory', startMemoryRateLimiter)

const bucketsOf = (limits: Parameters<typeof policyOf>[0], maxBuckets?: number) =>
  new TokenBuckets(policyOf(limits), maxBuckets)

it('says that it is in memory', async () => {
  await using limiter = await startMemoryRateLimiter(policyOf({}))
  expect(limiter.kind).toBe('memory')
})

it('answers like a plain replay of all that was admitted, whatever was forgotten meanwhile', () => {
  const seed = randomInt(2 ** 31)
  console.info(`seed ${seed}`)
  const random = generator(seed)
  const windows = [
    { burst: 30, perMs: 30 / 20_000 },
    { burst: 6, perMs: 6 / 1000 },
  ]
  const buckets = bucketsOf({ deviceReadings: '30:20,6:1' })
  const admitted = new Map<string, { atMs: number; amount: number }[]>()
  let nowMs = 0
  for (let step = 0; step < 5000; step++) {
    nowMs += random(50) === 0 ? random(60_000) : random(400)
    const device = `pump-${random(8)}`
    const amount = 1 + random(random(10) === 0 ? 50 : 5)
    const history = admitted.get(device) ?? []
    let expected = 0
    for (const { burst, perMs } of windows) {
      let used = 0
      let lastMs = 0
      for (const past of history) {
        used = Math.max(0, used - (past.atMs - lastMs) * perMs) + past.amount
        lastMs = past.atMs
      }
      used = Math.max(0, used - (nowMs - lastMs) * perMs)
      const over = used + Math.min(amount, burst) - burst
      if (over > 1e-6) expected = Math.max(expected, over / perMs)
    }
    const [wait] = buckets.take([costOf('default', device, { messages: 0, readings: amount })], nowMs)
    const why = `seed ${seed}, step ${step}`
    expect(Math.abs((wait?.ms ?? 0) - expected), why).toBeLessThanOrEqual(1.001)
    if (wait === undefined) admitted.set(device, [...history, { atMs: nowMs, amount }])
  }
})

it('admits all that a limit allows to one who always asks', () => {
  const buckets = bucketsOf({ device: '10:1' })
  let admitted = 0
  for (let nowMs = 0; nowMs <= 100_000; nowMs += 7)
    for (const wait of buckets.take([costOf('default', 'pump-1'), costOf('default', 'pump-1')], nowMs))
      if (wait === undefined) admitted++
  expect(admitted).toBeGreaterThanOrEqual(10 + 10 * 99.9)
  expect(admitted).toBeLessThanOrEqual(10 + 10 * 100)
})

it('forgets buckets that are full again, and keeps debts', () => {
  const buckets = bucketsOf({ device: '10:1', tenant: '1000000:1' })
  const debt = costOf('default', 'debtor', { messages: 600 })
  expect(buckets.take([debt], 0)).toEqual([undefined])
  for (let number = 0; number < 5000; number++) buckets.take([costOf('default', `pump-${number}`)], number)
  expect(buckets.size).toBe(5002)
  for (let number = 0; number < 1000; number++) buckets.take([costOf('default', 'pump-1')], 16_000 + number)
  expect(buckets.size, 'the tenant, the debtor, the one that goes on').toBe(3)
  expect(buckets.take([costOf('default', 'debtor')], 17_000)[0]?.ms).toBe(42_100)
  for (let number = 0; number < 100; number++) buckets.take([costOf('default', 'pump-1')], 80_000 + number)
  expect(buckets.size, 'the debt is paid').toBe(2)
})

it('holds no more buckets than its bound while one-off devices pass through', () => {
  const buckets = bucketsOf({ device: '10:1' })
  let most = 0
  for (let step = 0; step < 100_000; step++) {
    buckets.take([costOf(`tenant-${step % 50}`, `one-off-${step}`)], step)
    most = Math.max(most, buckets.size)
  }
  expect(most, 'a bucket a millisecond, forgotten after ten seconds').toBeLessThanOrEqual(10_010)
})

it('gives up the buckets that were asked least recently when there are too many', () => {
  const buckets = bucketsOf({ device: '1:3600' }, 100)
  const ask = (device: string, nowMs: number) => buckets.take([costOf('default', device)], nowMs)[0] === undefined
  expect(ask('busy', 0)).toBe(true)
  for (let number = 0; number < 250; number++) {
    expect(ask(`pump-${number}`, number)).toBe(true)
    expect(ask('busy', number), 'asked all the time, so it is kept, and empty').toBe(false)
    expect(buckets.size).toBeLessThanOrEqual(100)
  }
  expect(ask('pump-249', 250)).toBe(false)
  expect(ask('pump-0', 250), 'forgotten').toBe(true)
})

it('looks for forgettable buckets from where it stood, also when that one has gone meanwhile', () => {
  const buckets = bucketsOf({ device: '1:3600' }, 30)
  const newcomers = (first: number, count: number) =>
    Array.from({ length: count }, (_, index) => costOf('default', `pump-${first + index}`))
  buckets.take(newcomers(0, 30), 0)
  buckets.take(newcomers(30, 1), 20_000) // pump-0 goes, and the search stops among the others, none of which is full
  buckets.take(newcomers(31, 15), 4_000_000) // pump-1 to pump-15 go, then all that were left are full
  expect(buckets.size).toBe(15)
  expect(buckets.take(newcomers(16, 15), 4_000_001).filter(Boolean), 'forgotten').toEqual([])
  expect(buckets.size).toBe(30)
})

it('divides burst and rate among the gateways of a local share', () => {
  const buckets = bucketsOf({ device: '10:1' })
  const asked = (count: number, nowMs: number) =>
    buckets
      .take(
        Array.from({ length: count }, () => costOf('default', 'pump-1')),
        nowMs,
      )
      .filter((wait) => wait === undefined).length
  buckets.divideBy(4, 0)
  expect(asked(20, 0)).toBe(2)
  expect(asked(20, 1000)).toBe(2)
  let sum = 0
  for (let nowMs = 2000; nowMs <= 12_000; nowMs += 100) sum += asked(5, nowMs)
  expect(sum).toBeGreaterThanOrEqual(25)
  expect(sum).toBeLessThanOrEqual(28)
  buckets.divideBy(100, 12_000)
  sum = 0
  for (let nowMs = 30_000; nowMs <= 130_000; nowMs += 100) sum += asked(5, nowMs)
  expect(sum, 'a tenth of a token a second, from a burst below one').toBeGreaterThanOrEqual(10)
  expect(sum).toBeLessThanOrEqual(11)
})
