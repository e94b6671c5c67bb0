import { expect, it } from 'vitest'
import { checkDeviceId, hashOf, newToken, quoted } from './registry.ts'

it.each(['pump-1', 'a/b', 'Zürich 7', 'x'.repeat(128)])('takes the device id %j', (id) => {
  expect(() => checkDeviceId(id)).not.toThrow()
})

it.each(['', 'x'.repeat(129), 'ü'.repeat(65), 'a+b', 'a#', '$SYS', 'a\u0000', 'a\nb', 'a\u0085'])(
  'refuses the device id %j',
  (id) => {
    expect(() => checkDeviceId(id)).toThrow(expect.objectContaining({ code: 'BRIDGE_USAGE' }))
  },
)

it('makes tokens of 256 bits, which are stored as 32 bytes', () => {
  expect(newToken()).toMatch(/^fb_[A-Za-z0-9_-]{43}$/)
  expect(newToken()).not.toBe(newToken())
  expect(hashOf(newToken())).toHaveLength(32)
})

it('quotes for a shell', () => {
  expect(quoted('pump-1')).toBe('pump-1')
  expect(quoted("it's")).toBe("'it'\\''s'")
})
