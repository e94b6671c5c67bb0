import { expect, it } from 'vitest'
import { Linger } from './linger.ts'

it('sends a lone message at once', () => {
  const linger = new Linger(5, 20)
  linger.arrived(1000, true)
  expect(linger.waitMs(1000)).toBe(0)
  linger.sent(1000)
  linger.arrived(1100, true)
  expect(linger.waitMs(1100)).toBe(0)
})

it('keeps lingerMs between sends, and sends when the input has run dry by then', () => {
  const linger = new Linger(5, 20)
  linger.sent(1000)
  linger.arrived(1002, true)
  expect(linger.waitMs(1002)).toBe(3)
  expect(linger.waitMs(1005)).toBe(0)
})

it('waits up to maxLingerMs while messages keep streaming in', () => {
  const linger = new Linger(5, 20)
  linger.sent(1000)
  for (let now = 1000.5; now < 1019.5; now += 0.5) {
    linger.arrived(now, now === 1000.5)
    if (now >= 1005) expect(linger.waitMs(now)).toBe(1)
  }
  linger.arrived(1020, false)
  expect(linger.waitMs(1020)).toBe(0)
})
