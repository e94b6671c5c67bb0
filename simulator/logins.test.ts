import { expect, it } from 'vitest'
import { parseDurationMs } from './duration.ts'
import { readLogins } from './logins.ts'

it('reads device,token lines, also with commas in an id, CRLF and blank lines', () => {
  expect(readLogins('pump-1,fb_a\r\n\nhall,2,fb_b\n"a ""b"", c",fb_c')).toEqual([
    { device: 'pump-1', token: 'fb_a' },
    { device: 'hall,2', token: 'fb_b' },
    { device: 'a "b", c', token: 'fb_c' },
  ])
})

it.each([
  ['', /no lines/],
  ['pump-1', /line 1 is not/],
  ['pump-1,fb_a\n,fb_b', /line 2 is not/],
  ['pump-1,', /line 1 is not/],
  ['pump-1,fb_a\npump-1,fb_b', /line 2 repeats/],
  ['pump-1,fb_a\npump-2,fb_a', /line 2 repeats/],
])('refuses %j', (csv, message) => {
  expect(() => readLogins(csv)).toThrow(message)
})

it('reads lengths of time as people write them', () => {
  expect(['500ms', '30s', '1.5m', '2h', '10'].map(parseDurationMs)).toEqual([500, 30_000, 90_000, 7_200_000, 10_000])
  for (const bad of ['', '0s', '-1s', '5 days', '1e3', 'NaN', '1s1m']) expect(parseDurationMs(bad)).toBeUndefined()
})
