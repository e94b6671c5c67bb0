import { expect, it } from 'vitest'
import type { Principal } from '../auth/principal.ts'
import { type InsideFilter, insideFilter } from './device-topics.ts'
import { Watchers } from './watchers.ts'

const limits = { maxTopicBytes: 512, maxTopicLevels: 16 }
const principal = (device: string, operator: boolean, tenant = 'one'): Principal => ({
  tenant,
  device,
  fleet: false,
  operator,
  credentialId: '1',
  expiresAtMs: Number.POSITIVE_INFINITY,
  allows: () => false,
})
const filterOf = (filter: string, device: string, operator = false, tenant = 'one') =>
  insideFilter(filter, principal(device, operator, tenant), limits) as InsideFilter

it('covers what somebody subscribed to, and nothing of another tenant or device', () => {
  const watchers = new Watchers()
  watchers.add(filterOf('devices/me/#', 'pump-1'))
  watchers.add(filterOf('devices/+/telemetry', 'op', true))
  expect(watchers.covers('one/devices/pump-1/telemetry')).toBe(true)
  expect(watchers.covers('one/devices/pump-1/errors')).toBe(true)
  expect(watchers.covers('one/devices/pump-2/telemetry')).toBe(true)
  expect(watchers.covers('one/devices/pump-2/errors')).toBe(false)
  expect(watchers.covers('two/devices/pump-1/telemetry')).toBe(false)
  expect([watchers.countOf('one'), watchers.countOf('two')]).toEqual([2, 0])
})

it('is off while nobody can see telemetry, and says when its answers change', () => {
  const watchers = new Watchers()
  const [errors, sys, all] = [
    filterOf('devices/me/errors', 'pump-1'),
    filterOf('$SYS/broker/#', 'op', true),
    filterOf('#', 'op', true),
  ]
  for (const filter of [errors, sys]) watchers.add(filter)
  expect([watchers.isAny, watchers.epoch, watchers.coversSys('one')]).toEqual([false, 0, true])
  for (const [change, isAny, epoch] of [
    ['add', true, 1],
    ['add', true, 1],
    ['remove', true, 1],
    ['remove', false, 2],
  ] as const) {
    watchers[change](all)
    expect([watchers.isAny, watchers.epoch]).toEqual([isAny, epoch])
  }
  for (const filter of [errors, sys]) watchers.remove(filter)
  expect([watchers.count, watchers.covers('one/devices/pump-1/errors'), watchers.coversSys('one')]).toEqual([
    0,
    false,
    false,
  ])
})
