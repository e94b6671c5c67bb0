import { describe, expect, it } from 'vitest'
import { isGuessable, LoginGuard, maxLoginDelayMs } from './login-guard.ts'

const t0 = 1_000_000

function failing(guard: LoginGuard, times: number, address: string, name?: string, nowMs = t0): void {
  for (let time = 0; time < times; time++) guard.failed(address, name, nowMs)
}

describe('LoginGuard', () => {
  it('delays nobody within the limit, and the address past it until a failure is forgiven', () => {
    const guard = new LoginGuard('10:10')
    failing(guard, 9, '10.0.0.1')
    expect(guard.delayMs('10.0.0.1', undefined, t0)).toBe(0)
    guard.failed('10.0.0.1', undefined, t0)
    expect(guard.delayMs('10.0.0.1', undefined, t0)).toBe(1000)
    expect(guard.delayMs('10.0.0.1', undefined, t0 + 400)).toBe(600)
    expect(guard.delayMs('10.0.0.1', undefined, t0 + 1000)).toBe(0)
    expect(guard.delayMs('10.0.0.2', 'pump', t0), 'another address').toBe(0)
  })

  it('counts a user name wherever the guesses come from', () => {
    const guard = new LoginGuard('10:60')
    for (let from = 0; from < 10; from++) guard.failed(`10.0.1.${from}`, 'admin', t0)
    expect(guard.delayMs('10.0.9.9', 'admin', t0)).toBe(maxLoginDelayMs)
    expect(guard.delayMs('10.0.9.9', 'other', t0)).toBe(0)
    expect(guard.delayMs('10.0.9.9', undefined, t0)).toBe(0)
  })

  it('never delays longer than a device behind the same router can bear, and forgives all after two windows', () => {
    const guard = new LoginGuard('2:60')
    failing(guard, 10_000, '10.0.0.1', 'pump')
    expect(guard.delayMs('10.0.0.1', 'pump', t0)).toBe(maxLoginDelayMs)
    expect(guard.delayMs('10.0.0.1', 'pump', t0 + 120_000)).toBe(0)
  })

  it('holds every window', () => {
    const guard = new LoginGuard('5:1,10:600')
    failing(guard, 5, 'a')
    expect(guard.delayMs('a', undefined, t0)).toBe(200)
    failing(guard, 5, 'a', undefined, t0 + 2000)
    expect(guard.delayMs('a', undefined, t0 + 4000), 'the longer one still does').toBe(maxLoginDelayMs)
  })

  it('none never delays and remembers nothing', () => {
    const guard = new LoginGuard('none')
    failing(guard, 100, 'a', 'b')
    expect([guard.delayMs('a', 'b', t0), guard.size]).toEqual([0, 0])
  })

  it('takes a /64 of IPv6 for one address, and IPv4 within IPv6 for IPv4', () => {
    const guard = new LoginGuard('1:60')
    guard.failed('2001:db8:0:7:1::5', undefined, t0)
    expect(guard.delayMs('2001:db8:0:7:ffff:1:2:3', undefined, t0)).toBeGreaterThan(0)
    expect(guard.delayMs('2001:db8:0:8::1', undefined, t0)).toBe(0)
    guard.failed('::ffff:10.0.0.1', undefined, t0)
    expect(guard.delayMs('10.0.0.1', undefined, t0)).toBeGreaterThan(0)
    guard.failed('::1', undefined, t0)
    expect(guard.delayMs('10.0.0.2', undefined, t0)).toBe(0)
  })

  it('remembers so many addresses and names and no more; names are ordinary whatever they are', () => {
    const guard = new LoginGuard('1:60')
    guard.failed('first', '__proto__', t0)
    expect(guard.delayMs('x', 'constructor', t0)).toBe(0)
    expect(guard.delayMs('x', '__proto__', t0)).toBeGreaterThan(0)
    for (let index = 0; index < 30_000; index++) guard.failed(`a${index}`, `${'n'.repeat(100)}${index}`, t0)
    expect(guard.size).toBe(40_000)
    expect(guard.delayMs('first', '__proto__', t0), 'the oldest are forgotten').toBe(0)
    expect(guard.delayMs('a29999', undefined, t0)).toBeGreaterThan(0)
  })
})

describe('isGuessable', () => {
  it.each([
    ['a chosen password', true],
    ['', false],
    [undefined, false],
    [`fb_${'A'.repeat(43)}`, false],
    ['fb_short', true],
    ['eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJwdW1wIn0.c2ln', false],
    ['eyJ.', true],
  ])('%s: %s', (secret, guessable) => {
    expect(isGuessable(secret)).toBe(guessable)
  })
})
