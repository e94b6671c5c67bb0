import { expect, it } from 'vitest'
import { hexDump } from './hex-dump.ts'

it('shows bytes as text where they are text, and as hex', () => {
  expect(hexDump(Buffer.from('{"a":"ä"}\u001b[2J'))).toBe(
    `{"a":"ä"}\\x1b[2J\n
00000000  7b 22 61 22 3a 22 c3 a4 22 7d 1b 5b 32 4a        |{"a":"..."}.[2J|`.replace('"..."', '".."'),
  )
  expect(hexDump(Buffer.from([0xff, 0x00]))).toBe('00000000  ff 00                                            |..|')
  expect(hexDump(Buffer.alloc(0))).toBe('')
})

it('ends somewhere, also in the middle of a character', () => {
  const dump = hexDump(Buffer.from(`x${'ä'.repeat(5000)}`))
  expect(dump).toContain('… 5905 bytes more')
  expect(dump.startsWith('xää')).toBe(true)
})
