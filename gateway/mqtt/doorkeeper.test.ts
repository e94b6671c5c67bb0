import { describe, expect, it } from 'vitest'
import { addressKey } from '#platform/address-key.ts'
import { Doorkeeper } from '../doorkeeper.ts'
import { RawClient } from './testing/raw-client.ts'
import { startTestSource } from './testing/source.ts'

it.each([
  ['192.0.2.1', '192.0.2.1'],
  ['::ffff:192.0.2.1', '192.0.2.1'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['2001:db8:1:2::9', '2001:db8:1:2::/64'],
  ['2001:db8::9', '2001:db8:0:0::/64'],
  ['::1', '0:0:0:0::/64'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64'],
  ['', ''],
])('%s counts as %s', (address, key) => {
  expect(addressKey(address)).toBe(key)
})

describe('Doorkeeper', () => {
  const door = (maxConnections: number, maxConnectionsPerAddress: number, connectRate: string) =>
    new Doorkeeper({ maxConnections, maxConnectionsPerAddress, connectRate })

  it('counts connections in all and by address, until they leave', () => {
    const own = door(3, 2, 'none')
    expect([own.admit('a', 0), own.admit('a', 0), own.admit('a', 0)]).toEqual([
      undefined,
      undefined,
      'too_many_from_address',
    ])
    expect([own.admit('b', 0), own.admit('c', 0)]).toEqual([undefined, 'too_many_connections'])
    own.leave('a')
    expect([own.admit('c', 0), own.admit('a', 0)]).toEqual([undefined, 'too_many_connections'])
  })

  it('lets a fleet return at once, and then so many a second, by address', () => {
    const own = door(1e6, 1e6, '2000:10')
    const admitted = (count: number, address: string, nowMs: number) =>
      Array.from({ length: count }, () => own.admit(address, nowMs)).filter((refusal) => refusal === undefined).length
    expect(admitted(3000, 'a', 0)).toBe(2000)
    expect(own.admit('a', 0)).toBe('connect_rate')
    expect(admitted(3000, 'a', 1000)).toBe(200)
    expect(admitted(100, 'b', 1000)).toBe(100)
  })

  it('does not remember addresses for ever', () => {
    const own = door(1e6, 1, '10:1')
    for (let n = 0; n < 30_000; n++) {
      expect(own.admit(`10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`, n)).toBeUndefined()
      own.leave(`10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`)
    }
    expect(own.size).toBeLessThanOrEqual(20_000)
  })
})

it('connections past the bounds of their address are closed, and counted', async () => {
  await using test = await startTestSource({ maxConnectionsPerAddress: 3, connectRate: '5:60' })
  const clients: RawClient[] = []
  for (let n = 0; n < 3; n++) clients.push(await RawClient.connect(test.port, `pump-${n}`))
  const fourth = await RawClient.open(test.port)
  await fourth.closed(2000)
  expect(await test.count('fleetbridge_mqtt_connects_total', { result: 'too_many_from_address' })).toBe(1)
  for (const client of clients) client.destroy()
  await expect.poll(() => test.count('fleetbridge_mqtt_connections')).toBe(0)
  for (let n = 0; n < 2; n++) (await RawClient.connect(test.port, `pump-${n}`)).destroy()
  const tooFast = await RawClient.open(test.port)
  await tooFast.closed(2000)
  expect(await test.count('fleetbridge_mqtt_connects_total', { result: 'connect_rate' })).toBe(1)
})
