import { expect, it } from 'vitest'
import { durationMs, expiryOf } from './times.ts'

const nowMs = Date.parse('2026-06-01T12:00:00Z')

it.each([
  ['0s', 0],
  ['45s', 45_000],
  ['30m', 1_800_000],
  ['24h', 86_400_000],
  ['90d', 7_776_000_000],
  ['2w', 1_209_600_000],
])('%s is %i ms', (text, ms) => {
  expect(durationMs(text, '--overlap')).toBe(ms)
})

it.each(['', '1', 'h', '-1h', '1.5h', '1y', '1H', ' 1h', '999999999d', '99999999w'])('%j is no time', (text) => {
  expect(() => durationMs(text, '--overlap')).toThrow(/--overlap .* is no time such as/)
})

it.each([
  ['90d', '2026-08-30T12:00:00.000Z'],
  ['2030-01-31', '2030-01-31T00:00:00.000Z'],
  ['2030-01-31T12:00Z', '2030-01-31T12:00:00.000Z'],
  ['2030-01-31T12:00:00.5+02:00', '2030-01-31T10:00:00.500Z'],
])('an expiry of %s', (text, iso) => {
  expect(expiryOf(text, nowMs).toISOString()).toBe(iso)
})

it.each([
  ['0d', /over at once/],
  ['2026-06-01', /over already/],
  ['2020-01-01T00:00:00Z', /over already/],
  ['2500-01-01', /100 years/],
  ['2030-01-31T12:00:00', /neither/], // in which zone?
  ['2030-13-01', /neither/],
  ['31.01.2030', /neither/],
  ['tomorrow', /neither/],
  ['', /neither/],
])('no expiry: %j', (text, message) => {
  expect(() => expiryOf(text, nowMs)).toThrow(message)
})
