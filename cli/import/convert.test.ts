import { expect, it } from 'vitest'
import { type Mapping, mappingFlags, mappingOf } from './mapping.ts'
import { offsetMinutesOf, timeReader } from './time-format.ts'
import { type ConvertOptions, convert } from './to-reading.ts'

const us = (iso: string) => Date.parse(iso) * 1000

it.each([
  ['auto', 'Z', 1_700_000_000, us('2023-11-14T22:13:20Z')],
  ['auto', 'Z', '1700000000.25', us('2023-11-14T22:13:20.250Z')],
  ['auto', 'Z', 1_700_000_000_123, us('2023-11-14T22:13:20.123Z')],
  ['auto', 'Z', '2023-11-14', us('2023-11-14T00:00:00Z')],
  ['auto', '+02:00', '2023-11-14 12:00:00', us('2023-11-14T10:00:00Z')],
  ['auto', '+02:00', '2023-11-14T12:00:00Z', us('2023-11-14T12:00:00Z')],
  ['auto', '+02:00', '1700000000', us('2023-11-14T22:13:20Z')],
  ['ns', 'Z', '1700000000000000000', us('2023-11-14T22:13:20Z')],
  ['dd.MM.yyyy HH:mm', '+01:00', '14.11.2023 9:05', us('2023-11-14T08:05:00Z')],
  ['yyyy/MM/dd HH:mm:ss.SSS', '-05:30', '2023/11/14 09:05:07.5', us('2023-11-14T14:35:07.500Z')],
  ['dd.MM.yyyy', 'Z', '31.02.2023', undefined],
  ['dd.MM.yyyy', 'Z', '1.2.23', undefined],
  ['auto', 'Z', 'soon', undefined],
  ['auto', 'Z', {}, undefined],
  ['auto', 'Z', 12, undefined],
  ['ms', 'Z', '1e400', undefined],
])('time format %s, offset %s: %j', (format, offset, value, expected) => {
  expect(timeReader(format, offsetMinutesOf(offset))(value)).toBe(expected)
})

it.each(['MM/dd', 'yyyy-yyyy-MM-dd', 'epoch'])('refuses the pattern %s', (format) => {
  expect(() => timeReader(format)).toThrow(/--time-format/)
})

it('knows usual columns by their names, and says what it guessed', () => {
  const { mapping, guessed } = mappingOf(['Timestamp', 'sensor_id', 'temp', 'rpm', 'ingest_time'], {})
  expect(mapping).toEqual({
    device: { column: 'sensor_id' },
    time: 'Timestamp',
    metric: undefined,
    unit: undefined,
    values: ['temp', 'rpm'],
  })
  expect(guessed).toHaveLength(3)
  expect(mappingFlags(mapping)).toBe('--device-column sensor_id --time-column Timestamp --value-columns temp,rpm')
})

it('knows the long form by a metric with its value', () => {
  const { mapping } = mappingOf(['device', 'metric', 'unit', 'time', 'value', 'text', 'flag'], {})
  expect(mapping).toMatchObject({ metric: 'metric', unit: 'unit', values: ['value', 'text', 'flag'] })
  // `metric` alone is a column like any other.
  expect(mappingOf(['device', 'time', 'metric'], {}).mapping).toMatchObject({ metric: undefined, values: ['metric'] })
})

it('guesses nothing where the flags say all', () => {
  const flags = { device: 'pump-1', timeColumn: 'Zeit', valueColumns: 'a, b' }
  expect(mappingOf(['Zeit', 'a', 'b', 'c'], flags)).toEqual({
    guessed: [],
    mapping: { device: { id: 'pump-1' }, time: 'Zeit', metric: undefined, unit: undefined, values: ['a', 'b'] },
  })
})

it.each([
  [['t', 'time'], {}, /--device-column NAME, or --device ID/],
  [['device', 'x'], {}, /--time-column/],
  [['device', 'time'], {}, /--value-columns/],
  [['device', 'time', 'x'], { valueColumns: 'y' }, /--value-columns names "y", which is not there/],
  [['device', 'time', 'x'], { device: 'a', deviceColumn: 'device' }, /one of them/],
  [['device', 'time', 'x'], { unitColumn: 'x' }, /--metric-column/],
])('%j with %j is refused', (columns, flags, words) => {
  expect(() => mappingOf(columns, flags)).toThrow(words)
})

const wide: Mapping = {
  device: { column: 'd' },
  time: 't',
  metric: undefined,
  values: ['x', 'y', 'values'],
  unit: undefined,
}
const options: ConvertOptions = {
  mapping: wide,
  readTime: timeReader('auto'),
  units: new Map([['x', 'Cel']]),
  nulls: new Set(['NaN']),
  decimalComma: false,
  oldestUs: undefined,
}
const at = 1_700_000_000

function values(cells: Record<string, unknown>, more: Partial<ConvertOptions> = {}): unknown {
  const row = { line: 2, cells: new Map(Object.entries({ d: 'pump-1', t: at, ...cells })), fault: undefined }
  const converted = convert(row, { ...options, ...more })
  return converted.kind === 'reading'
    ? JSON.parse(converted.json).values
    : converted.kind === 'rejected'
      ? converted.reason
      : converted.kind
}

it.each([
  [{ x: '21.5' }, { x: { value: 21.5, unit: 'Cel' } }],
  [
    { x: '-.5', y: 'TRUE' },
    { x: { value: -0.5, unit: 'Cel' }, y: { value: true } },
  ],
  [{ y: '007' }, { y: { value: '007' } }],
  [{ y: 'NaN', x: '' }, 'empty'],
  [
    { y: { rpm: 5, deep: { z: [1, 'a'] } } },
    { 'y.rpm': { value: 5 }, 'y.deep.z.0': { value: 1 }, 'y.deep.z.1': { value: 'a' } },
  ],
  [{ y: { value: 3, unit: 'bar' } }, { y: { value: 3, unit: 'bar' } }],
  [{ values: { temp: 4, state: null } }, { temp: { value: 4 } }],
  [{ y: '1e999' }, expect.stringContaining('finite')],
  [{ y: 'a\0b' }, expect.stringContaining('U+0000')],
  [{ y: 'x'.repeat(20_000) }, expect.stringContaining('longer')],
  [{ d: '', x: '1' }, 'names no device'],
  [{ d: '$sys', x: '1' }, 'the device id begins with $'],
  [{ t: '', x: '1' }, 'has no time'],
  [{ t: 'x', x: '1' }, expect.stringContaining('cannot read the time')],
  [{ t: Date.now() / 1000 + 3600, x: '1' }, expect.stringContaining('in the future')],
])('%j becomes %j', (cells, expected) => {
  expect(values(cells)).toEqual(expected)
})

it('reads a decimal comma where it is told to', () => {
  expect(values({ y: '1.234,5' }, { decimalComma: true })).toEqual({ y: { value: 1234.5 } })
  expect(values({ y: '1.234,5' })).toEqual({ y: { value: '1.234,5' } })
})

it('refuses what is older than readings are kept', () => {
  expect(values({ x: 1 }, { oldestUs: at * 1e6 + 1 })).toContain('BRIDGE_RETENTION_READING')
  expect(values({ x: 1 }, { oldestUs: at * 1e6 })).toMatchObject({ x: { value: 1 } })
})

it('the long form takes the first value that there is, with its unit', () => {
  const mapping: Mapping = { device: { id: 'a' }, time: 't', metric: 'm', values: ['value', 'text'], unit: 'u' }
  expect(values({ m: 'state', value: '', text: 'ON', u: '' }, { mapping })).toEqual({ state: { value: 'ON' } })
  expect(values({ m: 'p', value: '2', text: 'no', u: 'bar' }, { mapping })).toEqual({ p: { value: 2, unit: 'bar' } })
  expect(values({ value: '2' }, { mapping })).toBe('names no metric')
})

it('nothing hostile in a name leaves the message', () => {
  const mapping: Mapping = { ...wide, values: ['"},"x":{"', '__proto__'] }
  expect(values({ '"},"x":{"': 1 }, { mapping })).toEqual({ '"},"x":{"': { value: 1 } })
  expect(Object.keys(values({ ['__proto__']: 1 }, { mapping: { ...wide, values: ['__proto__'] } }) as object)).toEqual([
    '__proto__',
  ])
})
