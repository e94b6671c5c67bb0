import { expect, it } from 'vitest'
import { seededRandom } from '../random.ts'
import { models } from './models.ts'

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1_000_000))

/** A day of one device, a message a minute. */
function dayOf(name: string, from = seed) {
  const model = models.find((one) => one.name === name)
  if (model === undefined) throw new Error(`no model ${name}`)
  const signals = model.create(seededRandom(from))
  return Array.from({ length: 1440 }, (_, minute) => {
    const values = signals.next(minute / 60)
    return Object.fromEntries(model.metrics.map((metric, index) => [metric.name, values[index]])) as Record<
      string,
      number
    >
  })
}

it.each(models.map(({ name }) => name))(`%s: finite values, the same for the same seed (SEED=${seed})`, (name) => {
  const day = dayOf(name)
  for (const values of day)
    for (const value of Object.values(values)) if (typeof value === 'number') expect(Number.isFinite(value)).toBe(true)
  expect(dayOf(name)).toEqual(day)
  expect(dayOf(name, seed + 1)).not.toEqual(day)
})

it(`a meter only rises, a battery only falls until it is changed (SEED=${seed})`, () => {
  const energy = dayOf('meter').map((values) => values.energy as number)
  for (let index = 1; index < energy.length; index++)
    expect(energy[index]).toBeGreaterThanOrEqual(energy[index - 1] as number)
  const battery = dayOf('climate').map((values) => values.battery as number)
  for (let index = 1; index < battery.length; index++) {
    const [before, now] = [battery[index - 1] as number, battery[index] as number]
    expect(now <= before || before <= 1.1).toBe(true)
  }
})

it(`a room is warmer in the afternoon than at night (SEED=${seed})`, () => {
  const temperature = dayOf('climate').map((values) => values.temperature as number)
  const mean = (hour: number) => temperature.slice(hour * 60, hour * 60 + 60).reduce((a, b) => a + b) / 60
  expect(mean(15)).toBeGreaterThan(mean(3))
})

it(`a tracker stays on its route (SEED=${seed})`, () => {
  const day = dayOf('tracker')
  const spread = (name: string) => {
    const values = day.map((one) => one[name] as number)
    return Math.max(...values) - Math.min(...values)
  }
  expect(spread('lat')).toBeLessThan(0.2)
  expect(spread('lon')).toBeLessThan(0.4)
})
