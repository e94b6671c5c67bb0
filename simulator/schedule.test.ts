import fc from 'fast-check'
import { expect, it } from 'vitest'
import { seededRandom } from './random.ts'
import { createSchedule } from './schedule.ts'

const schedule = (devices: number, rate: number, durationMs: number, seed = 1) =>
  createSchedule({ devices, rate, durationMs, random: seededRandom(seed) })

it('plans rate × duration messages, evenly spaced from the start', () => {
  const { total, dueAtMs } = schedule(200, 2000, 30_000)
  expect(total).toBe(60_000)
  expect(dueAtMs(0)).toBe(0)
  expect(dueAtMs(1)).toBe(0.5)
  expect(dueAtMs(total - 1)).toBe(29_999.5)
})

it('says at any moment how many are due: those whose time has come, none before, all at the end', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 50_000 }),
      fc.integer({ min: 1, max: 10_000 }),
      fc.double({ min: 0, max: 12_000, noNaN: true }),
      (rate, durationMs, elapsedMs) => {
        const { total, dueBy, dueAtMs } = schedule(3, rate, durationMs)
        const due = dueBy(elapsedMs)
        if (due > 0) expect(dueAtMs(due - 1)).toBeLessThanOrEqual(elapsedMs)
        if (due < total) expect(dueAtMs(due)).toBeGreaterThan(elapsedMs)
        else expect(due).toBe(total)
      },
    ),
  )
})

it('does not fall behind at exact multiples of the interval, where divisions round', () => {
  const { dueBy, dueAtMs, total } = schedule(7, 333, 60_000)
  for (let n = 0; n < total; n++) expect(dueBy(dueAtMs(n))).toBe(n + 1)
  for (let n = 1; n < total; n++) expect(dueBy(justBelow(dueAtMs(n)))).toBe(n)
})

/** The largest double below a positive one. */
function justBelow(value: number): number {
  const double = new Float64Array([value])
  const bits = new BigInt64Array(double.buffer)
  bits[0] = (bits[0] as bigint) - 1n
  return double[0] as number
}

it('nothing is due before the start, and a run of any length has a message', () => {
  expect(schedule(1, 10, 1000).dueBy(-1)).toBe(0)
  expect(schedule(1, 0.001, 1).total).toBe(1)
})

it('gives every device a turn before any has its second, in an order that the seed decides', () => {
  const turns = (seed: number) => Array.from({ length: 100 }, (_, n) => schedule(50, 100, 1000, seed).deviceOf(n))
  const [first, second] = [turns(1).slice(0, 50), turns(1).slice(50)]
  expect(new Set(first).size).toBe(50)
  expect(second).toEqual(first)
  expect(turns(2)).not.toEqual(turns(1))
})
