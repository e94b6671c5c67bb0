import { expect, it } from 'vitest'
import { DecodeError } from './decode-error.ts'
import { textValue } from './text-value.ts'
import { unitOf } from './unit.ts'

it.each([
  ['21.5', 21.5],
  ['-3', -3],
  ['1e3', 1000],
  ['TRUE', true],
  ['False', false],
  ['null', null],
  ['NULL', 'NULL'],
  ['"auto"', 'auto'],
  ['"\\u0041"', 'A'],
  ['""', ''],
  ['"half', '"half'],
  ['"a" "b"', '"a" "b"'],
  ['"bad \\x"', '"bad \\x"'],
  ['ON', 'ON'],
  ['+5', '+5'],
  ['007', '007'],
  ['0x1F', '0x1F'],
  ['.5', '.5'],
  ['5.', '5.'],
  ['-', '-'],
  ['1 2', '1 2'],
  ['nano', 'nano'],
  ['info', 'info'],
])('text %j is %j', (text, expected) => {
  expect(textValue(text)).toBe(expected)
})

it.each(['NaN', 'nan', '-nan', 'inf', '+Inf', '-INFINITY', 'Infinity', '1e400', '-1e400', '9'.repeat(400)])(
  'text %s is bad_value',
  (text) => {
    try {
      expect(textValue(text)).toBe('an error')
    } catch (error) {
      expect(error).toBeInstanceOf(DecodeError)
      expect(error).toMatchObject({ code: 'bad_value' })
    }
  },
)

it.each([
  ['°C', 'Cel'],
  ['C', 'Cel'],
  ['c', 'c'],
  ['Celsius', 'Cel'],
  ['DEGC', 'DEGC'],
  ['FAHRENHEIT', '[degF]'],
  ['Volts', 'V'],
  ['v', 'v'],
  ['mBar', 'hPa'],
  ['hpa', 'hpa'],
  ['LUX', 'lx'],
  ['kWh', 'kWh'],
  ['constructor', 'constructor'],
  ['__proto__', '__proto__'],
  ['', undefined],
])('unit %j is %j', (text, expected) => {
  expect(unitOf(text)).toBe(expected)
})
