import { expect, it } from 'vitest'
import { fitsPattern } from './device-pattern.ts'

it.each([
  [null, 'anything', true],
  ['*', '', true],
  ['pump-1', 'pump-1', true],
  ['pump-1', 'pump-12', false],
  ['site1-*', 'site1-pump', true],
  ['site1-*', 'site1-', true],
  ['site1-*', 'site2-pump', false],
  ['*-meter', 'a-meter', true],
  ['a*b*c', 'aXbYc', true],
  ['a*b*c', 'abc', true],
  ['a*b*c', 'acb', false],
  ['a*bc*c', 'abc', false],
  ['ab*ba', 'aba', false],
  ['.*', 'x', false],
  ['a**b', 'ab', true],
])('pattern %s and device %s', (pattern, device, fits) => {
  expect(fitsPattern(pattern, device)).toBe(fits)
})
