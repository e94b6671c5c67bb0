import { expect, it } from 'vitest'
import { presentedBy } from './credentials.ts'

const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`

it.each([
  ['Bearer fb_x', 'fb_x', undefined],
  ['bearer fb_x', 'fb_x', undefined],
  ['BEARER   fb_x  ', 'fb_x', undefined],
  ['Token fb_x', 'fb_x', undefined],
  ['tOKEN fb_x', 'fb_x', undefined],
  [basic('pump-1:fb_x'), 'fb_x', 'pump-1'],
  [basic('pump-1@acme:fb_x'), 'fb_x', 'pump-1@acme'],
  [basic(':fb_x'), 'fb_x', undefined],
  [basic('pump-1:with:colons'), 'with:colons', 'pump-1'],
  [basic('pümp:fb_x'), 'fb_x', 'pümp'],
  [`basic ${Buffer.from('a:b').toString('base64')}`, 'b', 'a'],
  [basic('no colon'), undefined, undefined],
  ['Basic !!!', undefined, undefined],
  ['Basic ', undefined, undefined],
  ['Bearer', undefined, undefined],
  ['Bearer ', '', undefined],
  ['', undefined, undefined],
  ['Digest username="a"', undefined, undefined],
  ['constructor x', undefined, undefined],
  [undefined, undefined, undefined],
])('%j presents %j by %j', (authorization, token, username) => {
  expect(presentedBy(authorization)).toEqual({ token, username })
})
