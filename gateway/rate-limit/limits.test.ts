import { expect, it } from 'vitest'
import { rulesOf } from './limits.ts'
import { limitsOf } from './rate-limiter.contract.ts'

it('reads every window of every limit, under the names that answers carry', () => {
  expect(rulesOf(limitsOf({}))).toEqual([])
  expect(rulesOf(limitsOf({ device: '100:1,2000:60' }))).toEqual([
    { limit: 'device', owner: 'device', quantity: 'messages', burst: 100, seconds: 1 },
    { limit: 'device', owner: 'device', quantity: 'messages', burst: 2000, seconds: 60 },
  ])
  const text = '999999999:999999'
  const all = rulesOf({
    device: text,
    deviceReadings: text,
    deviceBytes: text,
    fleet: text,
    fleetReadings: text,
    fleetBytes: text,
    tenant: text,
    tenantReadings: text,
    tenantBytes: text,
    all: text,
    allReadings: text,
    allBytes: text,
    catchUpDevice: text,
    catchUpFleet: text,
    catchUpTenant: text,
    firstSightDevices: 0,
    firstSightPerMinute: 60,
  })
  expect(all.map(({ limit }) => limit)).toEqual([
    'device',
    'device_readings',
    'device_bytes',
    'fleet',
    'fleet_readings',
    'fleet_bytes',
    'tenant',
    'tenant_readings',
    'tenant_bytes',
    'all',
    'all_readings',
    'all_bytes',
    'catch_up_device',
    'catch_up_fleet',
    'catch_up_tenant',
  ])
  for (const { limit, owner, quantity, burst, seconds } of all) {
    expect([burst, seconds]).toEqual([999_999_999, 999_999])
    const suffix = quantity === 'messages' ? '' : `_${quantity}`
    expect(limit).toBe(quantity === 'catchUp' ? `catch_up_${owner}` : `${owner}${suffix}`)
  }
})

it.each(['', 'None', '100', '0:1', '1:0', '-1:1', '1:1,', '1:1, 2:2', '1.5:1', '1e3:1', '01:1', '1:1:1', '1:1000000'])(
  'refuses "%s" and names the setting',
  (text) => {
    expect(() => rulesOf(limitsOf({ fleetBytes: text }))).toThrow(/limits\.fleetBytes/)
  },
)
