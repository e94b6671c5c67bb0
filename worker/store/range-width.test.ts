import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type RangeWidth, rangeAt, rangeWidth, retentionMs } from './range-width.ts'

const shown = (width: RangeWidth, at: string) => {
  const { fromMs, toMs } = rangeAt(width, Date.parse(at))
  return [new Date(fromMs).toISOString(), new Date(toMs).toISOString()]
}
const midnight = (date: string) => `${date}T00:00:00.000Z`

describe('rangeWidth', () => {
  it.each([
    ['1d', 'day'],
    ['90d', 'day'],
    ['91d', 'week'],
    ['730d', 'week'],
    ['731d', 'month'],
    ['99999d', 'month'],
    ['forever', 'month'],
  ])('of %s is a %s', (retention, width) => {
    expect(rangeWidth(retentionMs(retention))).toBe(width)
  })

  it.each(['', '90', '90 d', '0d', '1w', '-1d'])('refuses the retention "%s"', (retention) => {
    expect(() => retentionMs(retention)).toThrow('Nd')
  })
})

describe('rangeAt', () => {
  it.each<[RangeWidth, string, string, string]>([
    ['day', '2026-03-29T00:00:00.000Z', '2026-03-29', '2026-03-30'],
    ['day', '2026-03-29T23:59:59.999Z', '2026-03-29', '2026-03-30'],
    ['week', '2026-11-23T00:00:00.000Z', '2026-11-23', '2026-11-30'],
    ['week', '2026-11-22T23:59:59.999Z', '2026-11-16', '2026-11-23'],
    ['week', '2027-01-01T12:00:00.000Z', '2026-12-28', '2027-01-04'],
    ['month', '2028-02-29T23:59:59.999Z', '2028-02-01', '2028-03-01'],
    ['month', '2026-12-31T23:59:59.999Z', '2026-12-01', '2027-01-01'],
    ['week', '1969-12-31T00:00:00.000Z', '1969-12-29', '1970-01-05'],
  ])('%s of %s', (width, at, from, to) => {
    expect(shown(width, at)).toEqual([midnight(from), midnight(to)])
  })

  it('covers all time without gaps or overlaps', () => {
    const widths = fc.constantFrom<RangeWidth>('day', 'week', 'month')
    const instants = fc.integer({ min: Date.UTC(1990, 0), max: Date.UTC(2100, 0) })
    fc.assert(
      fc.property(widths, instants, (width, ms) => {
        const { fromMs, toMs } = rangeAt(width, ms)
        expect(fromMs <= ms && ms < toMs).toBe(true)
        expect(fromMs % 86_400_000).toBe(0)
        expect(rangeAt(width, toMs).fromMs).toBe(toMs)
        expect(rangeAt(width, fromMs - 1).toMs).toBe(fromMs)
      }),
    )
  })
})
