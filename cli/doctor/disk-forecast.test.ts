import { expect, it } from 'vitest'
import { bytesPerDay, forecast } from './disk-forecast.ts'

const dayMs = 86_400_000
const gb = 1e9
const now = Date.UTC(2026, 5, 15, 12) // noon: half of today has gone

/** One range a day up to tomorrow, so many bytes a full day. */
function days(count: number, bytes: number) {
  const today = Date.UTC(2026, 5, 15)
  return Array.from({ length: count + 1 }, (_, back) => {
    const fromMs = today - (back - 1) * dayMs
    return { fromMs, toMs: fromMs + dayMs, bytes: back === 0 ? 0 : back === 1 ? bytes / 2 : bytes }
  })
}

const room = { ranges: days(10, gb), databaseBytes: 10 * gb, freeBytes: 200 * gb, keptMs: 90 * dayMs, now }

it('takes the last days, and of today what has gone', () => {
  expect(bytesPerDay(days(10, gb), now)).toBeCloseTo(gb, -3)
  const long = [...days(10, gb), { fromMs: now - 100 * dayMs, toMs: now - 99 * dayMs, bytes: 500 * gb }]
  expect(bytesPerDay(long, now), 'last winter counts no more').toBeCloseTo(gb, -3)
  expect(bytesPerDay([], now)).toBeUndefined()
  expect(
    bytesPerDay([{ fromMs: now - 60_000, toMs: now + dayMs, bytes: 5 }], now),
    'a minute foretells nothing',
  ).toBeUndefined()
})

it('is well when the retention gives back before the disk is full', () => {
  expect(forecast(room)).toMatchObject({
    verdict: 'ok',
    seen: expect.stringMatching(/1\.0 GB of readings a day, 90 GB.*that fits/),
  })
})

it('says when it will be full', () => {
  expect(forecast({ ...room, freeBytes: 40 * gb })).toMatchObject({
    verdict: 'warn',
    seen: expect.stringContaining('full in 40 day(s)'),
  })
  expect(forecast({ ...room, freeBytes: 2 * gb })).toMatchObject({
    verdict: 'fail',
    seen: expect.stringContaining('full in 2 day(s)'),
  })
  expect(forecast({ ...room, freeBytes: 20 * gb, keptMs: undefined })).toMatchObject({ verdict: 'warn' })
  expect(forecast({ ...room, freeBytes: 9000 * gb, keptMs: undefined })).toMatchObject({ verdict: 'ok' })
})

it('says what it does not know', () => {
  expect(forecast({ ...room, freeBytes: undefined })).toMatchObject({
    verdict: 'ok',
    seen: expect.stringContaining('cannot be seen'),
  })
  expect(forecast({ ...room, ranges: [] })).toMatchObject({
    verdict: 'ok',
    seen: expect.stringContaining('too little history'),
  })
})
