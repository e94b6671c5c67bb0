import { expect, it } from 'vitest'
import { uuidV7 } from './uuid-v7.ts'

it('makes ids of version 7 and variant 10 that begin with the time', () => {
  const now = 1_790_000_000_123
  for (let count = 0; count < 2000; count++)
    expect(uuidV7(now)).toMatch(/^01a0c450-6c7b-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
})

it('repeats none', () => {
  expect(new Set(Array.from({ length: 20_000 }, () => uuidV7())).size).toBe(20_000)
})
