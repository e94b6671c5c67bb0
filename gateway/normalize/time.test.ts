import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DecodeError } from './decode-error.ts'
import { timeOf, timeOfMilliseconds } from './time.ts'

const seed = Number(process.env.FUZZ_SEED ?? Date.now() % 1_000_000)
console.info(`time: FUZZ_SEED=${seed}`)

const second = 1_700_000_000
const secondUs = second * 1_000_000

function codeOf(read: () => unknown): string | undefined {
  try {
    read()
    return undefined
  } catch (error) {
    return error instanceof DecodeError ? error.code : 'thrown'
  }
}

describe('numbers', () => {
  it.each([
    ['seconds', second, secondUs],
    ['seconds with a fraction', 1_700_000_000.123456, 1_700_000_000_123_456],
    ['milliseconds', second * 1e3 + 7, secondUs + 7000],
    ['microseconds', second * 1e6 + 7, secondUs + 7],
    ['nanoseconds', second * 1e9, secondUs],
    ['half a microsecond, to the nearest', 1_700_000_000_000_000.5, 1_700_000_000_000_001],
    ['text of digits', '1700000000.5', secondUs + 500_000],
  ])('%s', (_, time, expected) => {
    expect(timeOf(time)).toBe(expected)
  })

  it('gives no time for a clock that was not set', () => {
    for (const time of [0, -1, 946_684_799, 4_102_444_800, 4_294_967_295, 1e300, '0'])
      expect(timeOf(time)).toBeUndefined()
    expect(timeOf(946_684_800)).toBe(946_684_800_000_000)
    expect(timeOf(4_102_444_799)).toBe(4_102_444_799_000_000)
  })

  it('refuses other types and numbers too large for a double', () => {
    for (const value of [true, {}, [], [1]]) expect(codeOf(() => timeOf(value))).toBe('bad_time')
    expect(codeOf(() => timeOf(Number.POSITIVE_INFINITY))).toBe('bad_value')
    expect(codeOf(() => timeOf('9'.repeat(400)))).toBe('bad_value')
  })

  it('milliseconds are never read as anything else', () => {
    expect(timeOfMilliseconds(second * 1000)).toBe(secondUs)
    expect(timeOfMilliseconds(second)).toBeUndefined()
    expect(timeOfMilliseconds(undefined)).toBeUndefined()
    expect(timeOfMilliseconds(null)).toBeUndefined()
    expect(codeOf(() => timeOfMilliseconds('1700000000000'))).toBe('bad_time')
    expect(codeOf(() => timeOfMilliseconds(''))).toBe('bad_time')
  })
})

describe('texts', () => {
  it.each([
    ['2023-11-14T22:13:20Z', secondUs],
    ['2023-11-14 22:13:20', secondUs],
    ['2023-11-14T23:13:20+01:00', secondUs],
    ['2023-11-14T16:43:20-0530', secondUs],
    ['2023-11-14T22:13:20.1Z', secondUs + 100_000],
    ['2023-11-14T22:13:20.123456789Z', secondUs + 123_456],
    ['2023-11-14T22:13:20.9999999+00:00', secondUs + 999_999],
    ['2024-02-29T00:00:00Z', 1_709_164_800_000_000],
  ])('%s', (text, expected) => {
    expect(timeOf(text)).toBe(expected)
  })

  it.each(['1999-12-31T23:59:59Z', '2100-01-01T00:00:00Z', '0099-12-31T23:59:59-01:00', '0000-01-01T00:00:00Z'])(
    '%s is a clock that was not set',
    (text) => {
      expect(timeOf(text)).toBeUndefined()
    },
  )

  it('null and the empty text are no time', () => {
    expect(timeOf(null)).toBeUndefined()
    expect(timeOf('')).toBeUndefined()
  })

  it.each([
    'yesterday',
    '2023-11-14',
    '2023-11-14T22:13',
    '2023-11-14t22:13:20Z',
    '2023-11-14T22:13:20z',
    '2023-11-14T22:13:20.Z',
    '2023-11-14T22:13:20,5Z',
    '2023-11-14T22:13:20+1',
    '2023-11-14T22:13:20+01:0',
    '2023-11-14T22:13:20+24:00',
    '2023-11-14T22:13:20+01:60',
    '2023-11-14T22:13:20Zx',
    '2023-11-14T22:13:20 Z',
    '2023-11-14T24:00:00Z',
    '2023-11-14T22:60:00Z',
    '2023-11-14T22:13:60Z',
    '2023-13-01T00:00:00Z',
    '2023-00-01T00:00:00Z',
    '2023-04-31T00:00:00Z',
    '2023-02-29T00:00:00Z',
    '2100-02-29T00:00:00Z',
    '20231114T221320Z',
    '+2023-11-14T22:13:20Z',
    '-1',
    '1e9',
    ' 1700000000',
    '1700000000.',
  ])('%j is unreadable', (text) => {
    expect(codeOf(() => timeOf(text))).toBe('bad_time')
  })

  it('agrees with the engine on every instant it writes', () => {
    fc.assert(
      fc.property(
        fc.date({ min: new Date('2000-01-01'), max: new Date('2099-12-31'), noInvalidDate: true }),
        (date) => {
          expect(timeOf(date.toISOString())).toBe(date.getTime() * 1000)
        },
      ),
      { seed, numRuns: 2000 },
    )
  })

  it('takes any text', () => {
    const digits = fc.string({ unit: fc.constantFrom('2', '0', '1', '-', ':', 'T', '.', 'Z', '+', ' '), maxLength: 30 })
    fc.assert(
      fc.property(fc.oneof(digits, fc.string()), (text) => {
        expect(codeOf(() => timeOf(text))).not.toBe('thrown')
      }),
      { seed, numRuns: 3000 },
    )
  })
})
