import { expect, it } from 'vitest'
import { table } from './output.ts'

it('lines columns up, numbers to the right', () => {
  const text = table(
    ['device', 'value'],
    [
      ['pump-1', 21.5],
      ['p', 3],
    ],
  )
  expect(text).toBe('device  value\n------  -----\npump-1   21.5\np           3')
})

it('shows control characters that a device sent, and does not obey them', () => {
  expect(table(['text'], [['\u001b[2Jx\n']])).toBe('text\n------------\n\\x1b[2Jx\\x0a')
})
