import { expect, it } from 'vitest'
import { hasForeignCharset } from './media-type.ts'

it.each([
  [undefined, false],
  ['application/json', false],
  ['application/json; charset=utf-8', false],
  ['application/json;charset="UTF-8"', false],
  ['text/plain; Charset=US-ASCII; x=y', false],
  ['application/json; charset=latin1', true],
  ['application/json; CHARSET = "iso-8859-1"', true],
  ['application/json; charset=utf-8; charset=utf-16', true],
  ['application/json; charset=', true],
  ['application/json; charset=utf-16le', true],
])('%s: foreign %s', (contentType, foreign) => {
  expect(hasForeignCharset(contentType)).toBe(foreign)
})
