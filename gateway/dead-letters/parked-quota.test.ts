import { expect, it } from 'vitest'
import { ParkedBytes } from './parked-quota.ts'

const letter = (device: string, bytes: number, tenant = 'default') => ({ tenant, device, payload: Buffer.alloc(bytes) })

it('counts what the database holds and what was parked here, of a device and of its tenant', () => {
  const quota = new ParkedBytes({ deviceBytes: 1000, tenantBytes: 2000 })
  expect(quota.take(letter('a', 500))).toBeUndefined()
  expect(quota.take(letter('a', 500))).toBe('device_parked_bytes')
  quota.read(new Map([['default/b', 900]]))
  expect(quota.take(letter('a', 500)), 'what was parked since the last read may not be written').toBe(
    'device_parked_bytes',
  )
  expect(quota.take(letter('b', 0))).toBe('device_parked_bytes')
  quota.read(new Map([['default', 1900]]))
  expect(quota.take(letter('c', 0))).toBe('tenant_parked_bytes')
  expect(quota.take(letter('c', 0, 'acme'))).toBeUndefined()
})

it('keeps one message of any size where there is none yet', () => {
  const quota = new ParkedBytes({ deviceBytes: 1000, tenantBytes: 1000 })
  expect(quota.take(letter('a', 5000))).toBeUndefined()
  expect(quota.take({ ...letter('a', 0), payload: null })).toBe('device_parked_bytes')
})
