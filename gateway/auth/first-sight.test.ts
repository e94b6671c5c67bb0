import { expect, it } from 'vitest'
import { credentialRow, deviceRow, knownOf, sha256 } from './known.fixture.ts'

/** A fleet that brings devices as the registry lets it. */
function fleetOf(limits: { firstSightDevices: number; firstSightPerMinute: number }) {
  const { known, firstSight, feed } = knownOf(limits)
  feed(true, [deviceRow('gw')], [credentialRow('gw', { fleet: true, secretHash: sha256('t') })])
  const fleet = known.devices.findOrAdd('default', 'gw', 'disabled')
  return {
    feed,
    bring(name: string, atMs: number): boolean {
      if (!firstSight.admit(fleet, atMs)) return false
      known.devices.findOrAdd('default', name, 'new').bringer = fleet
      return true
    },
  }
}

it('counts over all of its life: rows that are there, and newcomers on their way', () => {
  const { feed, bring } = fleetOf({ firstSightDevices: 4, firstSightPerMinute: 60 })
  feed(false, [deviceRow('old-1', { bringer: 'gw' }), deviceRow('own')])
  expect([bring('a', 0), bring('b', 0), bring('c', 0), bring('d', 0)]).toEqual([true, true, true, false])
  feed(false, [deviceRow('a', { bringer: 'gw' }), deviceRow('a', { bringer: 'gw' })])
  expect(bring('d', 0), 'a newcomer whose row came counts once').toBe(false)
  feed(false, [deviceRow('b')])
  expect([bring('d', 0), bring('e', 0)], 'an operator added b meanwhile').toEqual([true, false])
  feed(true, [deviceRow('gw'), deviceRow('own'), deviceRow('a', { bringer: 'gw' }), deviceRow('b')])
  expect([bring('e', 0), bring('f', 0)], 'the row of old-1 is gone').toEqual([true, false])
})

it('lets so many in a minute, and again as time goes on', () => {
  const { bring } = fleetOf({ firstSightDevices: 1000, firstSightPerMinute: 6 })
  const at = (ms: number, count: number) =>
    Array.from({ length: count }, (_, index) => bring(`${ms}-${index}`, ms)).filter(Boolean).length
  const startMs = 1_000_000
  expect(at(startMs, 10)).toBe(6)
  expect(at(startMs + 9_999, 10)).toBe(0)
  expect(at(startMs + 10_000, 10)).toBe(1)
  expect(at(startMs + 40_000, 10)).toBe(3)
  expect(at(startMs + 3_600_000, 10)).toBe(6)
})
