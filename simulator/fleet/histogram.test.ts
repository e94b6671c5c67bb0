import { expect, it } from 'vitest'
import { seededRandom } from '../random.ts'
import { Histogram } from './histogram.ts'

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1_000_000))

it(`is within 1.6 % of the exact percentiles, alone and added up (SEED=${seed})`, () => {
  const random = seededRandom(seed)
  const values = Array.from({ length: 20_000 }, () => Math.max(1, Math.round(10 ** (random() * 8))))
  const parts = [new Histogram(), new Histogram()]
  for (const [index, value] of values.entries()) (parts[index % 2] as Histogram).record(value)
  const all = Histogram.from(JSON.parse(JSON.stringify(parts[0])))
  all.add(parts[1] as Histogram)
  values.sort((one, other) => one - other)
  expect(all.count).toBe(values.length)
  expect(all.max).toBe(values.at(-1))
  for (const part of [0.01, 0.5, 0.9, 0.99, 0.999, 1]) {
    const exact = values[Math.ceil(values.length * part) - 1] as number
    expect(all.at(part)).toBeGreaterThanOrEqual(exact)
    expect(all.at(part)).toBeLessThanOrEqual(exact * 1.016 + 1)
  }
})

it('has nothing to say when nothing was recorded, and forgets', () => {
  const histogram = new Histogram()
  expect(histogram.percentiles()).toBe(null)
  histogram.record(5)
  histogram.reset()
  expect(histogram.percentiles()).toBe(null)
})
