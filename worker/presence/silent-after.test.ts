import { expect, it } from 'vitest'
import { silentAfter } from './silent-after.ts'

const bounds = { minSeconds: 60, maxSeconds: 86_400 }
/** Arrivals with these gaps between. */
const after = (...gaps: number[]) => {
  let at = 1_790_000_000
  return [at, ...gaps.map((gap) => (at += gap))]
}
const times = (count: number, ...gaps: number[]) => Array.from({ length: count }, () => gaps).flat()

it('allows a device that reports regularly four of its intervals', () => {
  expect(silentAfter(after(...times(30, 30)), bounds)).toBe(120)
})

it('forgives two outages', () => {
  expect(silentAfter(after(...times(10, 30), 7200, ...times(10, 30), 90_000, ...times(10, 30)), bounds)).toBe(120)
})

it('knows a device that sends bursts', () => {
  expect(silentAfter(after(...times(12, ...times(40, 1), 3600)), bounds)).toBe(5400)
})

it('follows a device whose intervals vary', () => {
  expect(silentAfter(after(...times(10, 60, 60, 60, 60, 60, 60, 60, 60, 600)), bounds)).toBe(1200)
})

it('keeps to the bounds, and says nothing where too little is known', () => {
  expect(silentAfter(after(...times(30, 1)), bounds)).toBe(60)
  expect(silentAfter(after(...times(12, 86_400)), bounds)).toBe(86_400)
  expect(silentAfter(after(...times(7, 30)), bounds)).toBeUndefined()
  expect(silentAfter([5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5], bounds), 'one message of many readings').toBeUndefined()
  expect(silentAfter([], bounds)).toBeUndefined()
})
