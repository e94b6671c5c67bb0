import { expect, test } from 'vitest'
import type { Measured } from './measure.ts'
import { peerRatios, ratioLines, spreadOf } from './ratios.ts'

const one = (name: string, messagesPerSecond: number, rowsPerSecond: number | null = null) =>
  ({ name, messagesPerSecond, rowsPerSecond }) as Measured

test('a peer is compared with ours before and after it, whatever else was measured between', () => {
  const measured = [
    one('fleetbridge', 100, 200),
    one('peer', 50, 40),
    one('fleetbridge, HTTP', 1, 1),
    one('fleetbridge', 200, 400),
    one('peer', 50, 200),
  ]
  const ratios = peerRatios(measured, 2)
  expect(ratios).toEqual([
    {
      peer: 'peer',
      acknowledged: { median: 3.5, min: 3, max: 4 },
      stored: { median: 2.375, min: 1, max: 3.75 },
    },
  ])
  expect(ratioLines(ratios, 2)[0]).toBe('fleetbridge acknowledges 3.50 × (3.00 to 4.00) what peer does')
})

test('without ours there is nothing to compare', () => {
  expect(peerRatios([one('peer', 50)], 2)).toEqual([])
})

test('the median of three is the middle one', () => {
  expect(spreadOf([9, 1, 4])).toEqual({ median: 4, min: 1, max: 9 })
})
