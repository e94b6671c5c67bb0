import { expect, it } from 'vitest'
import { type LimitOverrideRow, LimitOverrides } from './limit-overrides.ts'
import { configuredPolicy } from './limit-policy.ts'
import { type Owner, rulesOf } from './limits.ts'
import { limitsOf } from './rate-limiter.contract.ts'

const limits = limitsOf({ device: '100:1', deviceBytes: '5000:1', fleet: '1000:1', tenant: '9000:1' })
const types = new Map([
  ['pump-1', 'pump'],
  ['pump-2', 'pump'],
  ['oven-1', 'oven'],
])

function row(setting: string, windows: string, more: Partial<LimitOverrideRow> = {}): LimitOverrideRow {
  return { tenant: 'acme', deviceType: null, device: null, setting, windows, ...more }
}

function overridesOf(rows: readonly LimitOverrideRow[]): LimitOverrides {
  const overrides = new LimitOverrides(limits)
  overrides.typesFrom({ typeOf: (_tenant, device) => types.get(device) })
  overrides.take(rows)
  return overrides
}

/** `limit burst:seconds` of everything that holds for one. */
const held = (overrides: LimitOverrides, owner: Owner, payer: string, tenant = 'acme') =>
  overrides.rulesOf(owner, tenant, payer).map(({ limit, burst, seconds }) => `${limit} ${burst}:${seconds}`)

it('without overrides is the configuration', () => {
  const overrides = overridesOf([])
  const configured = configuredPolicy(rulesOf(limits))
  for (const owner of ['device', 'fleet', 'tenant'] as const)
    expect(overrides.rulesOf(owner, 'acme', 'pump-1')).toEqual(configured.rulesOf(owner, 'acme', 'pump-1'))
  expect(overrides.rulesOf('device', 'acme', 'x')).toBe(overrides.rulesOf('device', 'other', 'y'))
})

it('the narrowest holds, for each setting on its own', () => {
  const overrides = overridesOf([
    row('device', '50:1'),
    row('deviceBytes', 'none'),
    row('device', '20:1,200:60', { deviceType: 'pump' }),
    row('device', '7:1', { device: 'pump-1' }),
    row('deviceReadings', '300:1', { device: 'pump-1' }),
    row('fleet', '5:1', { device: 'pump-1' }),
    row('tenant', '800:1'),
  ])
  expect(held(overrides, 'device', 'pump-1')).toEqual(['device 7:1', 'device_readings 300:1'])
  expect(held(overrides, 'fleet', 'pump-1')).toEqual(['fleet 5:1'])
  expect(held(overrides, 'device', 'pump-2')).toEqual(['device 20:1', 'device 200:60'])
  expect(held(overrides, 'fleet', 'pump-2')).toEqual(['fleet 1000:1'])
  expect(held(overrides, 'device', 'oven-1')).toEqual(['device 50:1'])
  expect(held(overrides, 'device', 'unknown')).toEqual(['device 50:1'])
  expect(held(overrides, 'tenant', '')).toEqual(['tenant 800:1'])
  expect(held(overrides, 'device', 'pump-1', 'other')).toEqual(['device 100:1', 'device_bytes 5000:1'])
})

it('says where each came from', () => {
  const overrides = overridesOf([
    row('deviceBytes', 'none'),
    row('deviceReadings', '10:1', { deviceType: 'pump' }),
    row('device', '7:1', { device: 'pump-1' }),
  ])
  const named = (device: string) =>
    overrides
      .applied('acme', device)
      .filter(({ owner }) => owner === 'device')
      .map(({ setting, windows, from }) => `${setting} ${windows} ${from}`)
  expect(named('pump-1')).toEqual(
    expect.arrayContaining(['device 7:1 device', 'deviceReadings 10:1 type', 'deviceBytes none tenant']),
  )
  expect(named('oven-1')).toEqual(expect.arrayContaining(['device 100:1 configuration']))
})

it('gives the same array until something about it changes', () => {
  const rows = [row('device', '20:1', { deviceType: 'pump' }), row('device', '7:1', { device: 'pump-1' })]
  const overrides = overridesOf(rows)
  const [own, ofType, other] = ['pump-1', 'pump-2', 'oven-1'].map((name) => overrides.rulesOf('device', 'acme', name))
  overrides.take([...rows, row('fleet', '5:1'), row('device', '1:1', { tenant: 'other' })])
  expect(overrides.rulesOf('device', 'acme', 'pump-1')).toBe(own)
  expect(overrides.rulesOf('device', 'acme', 'pump-2')).toBe(ofType)
  expect(overrides.rulesOf('device', 'acme', 'oven-1')).toBe(other)
  overrides.take([row('device', '21:1', { deviceType: 'pump' })])
  expect(held(overrides, 'device', 'pump-1')).toEqual(['device 21:1', 'device_bytes 5000:1'])
  expect(overrides.rulesOf('device', 'acme', 'pump-2')).toBe(overrides.rulesOf('device', 'acme', 'pump-1'))
})

it('follows a device to another type', () => {
  const overrides = overridesOf([
    row('device', '20:1', { deviceType: 'pump' }),
    row('deviceBytes', 'none', { device: 'pump-2' }),
  ])
  expect(held(overrides, 'device', 'pump-2')).toEqual(['device 20:1'])
  types.set('pump-2', 'oven')
  expect(held(overrides, 'device', 'pump-2')).toEqual(['device 100:1'])
  types.set('pump-2', 'pump')
})

it('leaves out what a newer version may have written', () => {
  const overrides = new LimitOverrides(limits)
  expect([...overrides.take([row('deviceJoules', '1:1'), row('device', '1:1:1'), row('fleet', '2:1')])]).toEqual([
    'deviceJoules=1:1',
    'device=1:1:1',
  ])
  expect(held(overrides, 'device', 'x')).toEqual(['device 100:1', 'device_bytes 5000:1'])
  expect(held(overrides, 'fleet', 'x')).toEqual(['fleet 2:1'])
})
