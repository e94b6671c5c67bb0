import { expect, it } from 'vitest'
import { FailedLogins } from './failed-logins.ts'

it('lets a few failures pass, then waits twice as long each time, up to 5 s', () => {
  const logins = new FailedLogins()
  const delays = Array.from({ length: 12 }, (_, index) => logins.failed('192.0.2.1', index))
  expect(delays).toEqual([0, 0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000])
  expect(logins.failed('192.0.2.2', 20), 'another address').toBe(0)
})

it('forgets after a minute', () => {
  const logins = new FailedLogins()
  for (let failure = 0; failure < 5; failure++) logins.failed('192.0.2.1', failure)
  expect(logins.failed('192.0.2.1', 60_010)).toBe(0)
})

it('keeps a bounded number of addresses', () => {
  const logins = new FailedLogins()
  for (let address = 0; address < 20_000; address++) logins.failed(`2001:db8::${address.toString(16)}`)
  expect(logins.size).toBe(10_000)
})
