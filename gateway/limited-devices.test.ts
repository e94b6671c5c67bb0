import { expect, it } from 'vitest'
import { LimitedDevices, type LimitedEvent } from './limited-devices.ts'

function limitedDevices() {
  const batches: (readonly LimitedEvent[])[] = []
  return { batches, devices: new LimitedDevices({ write: (events) => batches.push(events) }) }
}

it('says it at once, then what a minute has brought, and forgets who is quiet', () => {
  const { devices, batches } = limitedDevices()
  for (let n = 0; n < 1000; n++) devices.note('acme', 'pump-1', { ms: 10 + (n % 90), limit: 'device' }, 0)
  devices.note('acme', 'pump-2', { ms: 5, limit: 'tenant' }, 0)
  devices.flush(1000)
  expect(batches).toEqual([
    [
      expect.objectContaining({ tenant: 'acme', device: 'pump-1', limit: 'device', messages: 1000, waitMs: 99 }),
      expect.objectContaining({ device: 'pump-2', limit: 'tenant', messages: 1 }),
    ],
  ])
  for (let second = 2; second <= 60; second++) {
    devices.note('acme', 'pump-1', { ms: 7, limit: 'device_bytes' }, second * 1000)
    devices.flush(second * 1000)
  }
  expect(batches.length, 'within the minute nothing more').toBe(1)
  devices.flush(61_000)
  expect(batches[1]).toEqual([
    expect.objectContaining({ device: 'pump-1', limit: 'device_bytes', messages: 59, waitMs: 7 }),
  ])
  devices.flush(122_000)
  devices.note('acme', 'pump-1', { ms: 7, limit: 'device' }, 122_001)
  devices.flush(122_002)
  expect(batches.length, 'at once again').toBe(3)
  expect(devices.reported).toBe(4)
})

it('remembers no more than ten thousand devices', () => {
  const { devices, batches } = limitedDevices()
  for (let n = 0; n < 12_000; n++) devices.note('acme', `pump-${n}`, { ms: 1, limit: 'device' }, 0)
  devices.flush(0)
  expect(batches[0]?.length).toBe(10_000)
  devices.flush(60_000)
  devices.note('acme', 'pump-11999', { ms: 1, limit: 'device' }, 60_000)
  devices.flush(60_000)
  expect(batches[1]?.length).toBe(1)
})
