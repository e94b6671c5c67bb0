import { encode as encodeMsgpack } from '@msgpack/msgpack'
import { encode as encodeCbor, Tag } from 'cbor2'
import { describe, expect, it } from 'vitest'
import { resultOf } from './decode-case.ts'

/** `device metric value unit`, or the error's code. */
function decoded(
  contentType: string,
  payload: Uint8Array | number[],
  topic = 'devices/me/telemetry',
): string[] | string {
  const { result } = resultOf(Buffer.from(payload), {
    transport: topic.startsWith('/') ? 'http' : 'mqtt',
    topic,
    contentType,
    clientId: 'me-1',
  })
  if ('error' in result) return result.error
  return result.readings.map(
    ({ device, metric, value, unit }) => `${device} ${metric} ${JSON.stringify(value)} ${unit}`,
  )
}

const cbor = (payload: Uint8Array | number[], topic?: string) => decoded('application/cbor', payload, topic)
const msgpack = (payload: Uint8Array | number[], topic?: string) => decoded('application/msgpack', payload, topic)
const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex')

const encodings = [
  ['CBOR', (value: unknown) => cbor(encodeCbor(value))],
  ['MessagePack', (value: unknown) => msgpack(encodeMsgpack(value, { useBigInt64: true }))],
] as const

describe.each(encodings)('%s', (_, send) => {
  it('is read by the rules of the own form and generic ones', () => {
    expect(send({ values: { t: { value: 21.5, unit: 'C' }, on: true, n: null, motor: { rpm: 1450 } } })).toEqual([
      'me-1 t 21.5 Cel',
      'me-1 on true null',
      'me-1 motor.rpm 1450 null',
    ])
    expect(send({ metric: 't', value: 'x', device_id: 'd' })).toEqual(['d t "x" null'])
    expect(send([{ a: 1 }, { a: 2 }])).toEqual(['me-1 a 1 null', 'me-1 a 2 null'])
    expect(send(21.5)).toEqual(['me-1 telemetry 21.5 null'])
    expect(send('21.5'), 'a text stays one').toEqual(['me-1 telemetry "21.5" null'])
    expect(send(null)).toEqual([])
    expect(send([])).toEqual([])
    expect(send([1])).toBe('bad_value')
    expect(send({ a: Number.NaN })).toBe('bad_value')
    expect(send({ a: new Uint8Array([255, 254]) })).toEqual(['me-1 a "__4" null'])
  })

  it('keeps integers beyond a double', () => {
    expect(send({ a: 2n ** 53n + 1n, b: -(2n ** 63n), c: 2n ** 53n - 1n, d: 2 ** 60 })).toEqual([
      'me-1 a "9007199254740993" null',
      'me-1 b "-9223372036854775808" null',
      'me-1 c 9007199254740991 null',
      'me-1 d 1152921504606847000 null',
    ])
  })

  it('is bounded in depth and size', () => {
    let deep: unknown = 1
    for (let level = 0; level < 33; level++) deep = level % 2 === 0 ? [deep] : { a: deep }
    expect(send(deep)).toBe('too_deep')
    expect(send({ a: Array(1001).fill(1) })).toBe('too_many_readings')
    expect(send({ a: Array(30_000).fill(null) })).toBe('too_many_readings')
  })

  it('names of the language are ordinary names', () => {
    const names = ['constructor', 'toString', 'valueOf', 'hasOwnProperty']
    expect(send(Object.fromEntries(names.map((name) => [name, 1])))).toEqual(names.map((name) => `me-1 ${name} 1 null`))
  })
})

describe('CBOR', () => {
  it.each([
    ['', 'empty'],
    ['20', ['me-1 telemetry -1 null']],
    ['0a', ['me-1 telemetry 10 null']],
    ['a1 61 61 f9 3e00', ['me-1 a 1.5 null']],
    ['bf 61 61 9f 01 02 ff ff', ['me-1 a.0 1 null', 'me-1 a.1 2 null']],
    ['a1 61 61 7f 61 62 61 63 ff', ['me-1 a "bc" null']],
    ['a1 61 61 f7', []],
    ['a1 01 02', ['me-1 1 2 null']],
    ['d9d9f7 a1 61 61 01', ['me-1 a 1 null']],
    ['a1 61 61 c2 49 010000000000000000', ['me-1 a "18446744073709551616" null']],
    ['a1 61 61 c3 41 05', ['me-1 a -6 null']],
    ['a1 61 61 c4 82 21 19 6ab3', ['me-1 a 273.15 null']],
    ['a1 61 61 c5 82 20 03', ['me-1 a 1.5 null']],
    ['a1 61 61 3b 001fffffffffffff', ['me-1 a "-9007199254740992" null']],
    ['a1 61 61 fb c340000000000000', ['me-1 a -9007199254740992 null']],
    ['a1 61 61 d8 23 64 28612b29', ['me-1 a "(a+)" null']],
    ['a1 69 5f5f70726f746f5f5f 01', ['me-1 __proto__ 1 null']],
    ['a1 61 61 c4 82 1a 000fffff 01', 'bad_value'],
    [`a1 61 61 c2 5821 ${'01'.repeat(33)}`, 'bad_value'],
    ['a1 61 61 f0', 'bad_value'],
    ['a2 61 61 01 61 61 02', 'malformed'],
    ['a1 f5 01', 'malformed'],
    ['a1 61 61 01 00', 'malformed'],
    ['a1 61 61', 'malformed'],
    ['a1 61 61 62 c328', 'malformed'],
    ['bf 61 61 ff', 'malformed'],
    ['ff', 'malformed'],
    ['1c', 'malformed'],
    ['a1 61 61 f8 10', 'malformed'],
    ['9b ffffffffffffffff', 'malformed'],
    ['5b ffffffffffffffff', 'malformed'],
    ['a1 61 61 7f 41 61 ff', 'malformed'],
    [`${'c0'.repeat(5000)}00`, 'malformed'],
    [`${'81'.repeat(5000)}00`, 'too_deep'],
    ['9f'.repeat(5000), 'too_deep'],
  ])('%s', (bytes, expected) => {
    expect(cbor(hex(bytes))).toEqual(expected)
  })

  it('nothing of its own registry of tags is made', () => {
    for (const tag of [0, 1, 21, 22, 24, 28, 29, 32, 35, 64, 258, 259, 262, 280, 65_535, 21_065, 21_066])
      expect(cbor(encodeCbor({ a: new Tag(tag, 'x') })), String(tag)).toEqual(['me-1 a "x" null'])
  })

  it('a time may be one of its own', () => {
    const { result } = resultOf(hex('a2 62 7473 c1 1a 6553f100 61 61 01'), {
      transport: 'http',
      topic: '/v1/telemetry',
      contentType: 'Application/CBOR; x=y',
      clientId: 'd',
    })
    expect(result).toEqual({
      readings: [{ device: 'd', metric: 'a', value: 1, unit: null, ts: '2023-11-14T22:13:20.000Z' }],
    })
  })
})

describe('MessagePack', () => {
  it.each([
    ['', 'empty'],
    ['20', ['me-1 telemetry 32 null']],
    ['81 01 02', ['me-1 1 2 null']],
    ['82 a1 61 01 a1 61 02', ['me-1 a 2 null']],
    ['81 a1 61 d6 ff 6553f100', ['me-1 a "2023-11-14T22:13:20.000000Z" null']],
    ['81 a1 61 d4 05 00', 'unsupported'],
    ['81 a1 61 c7 03 ff 000000', 'malformed'],
    ['81 a9 5f5f70726f746f5f5f 01', 'malformed'],
    ['81 c0 01', 'malformed'],
    ['c1', 'malformed'],
    ['81 a1 61 01 00', 'malformed'],
    ['81 a1', 'malformed'],
    ['81 a1 61 a2 c328', 'malformed'],
    ['81 a2 c328 01', 'malformed'],
    ['dd ffffffff', 'malformed'],
    ['dc 2710'.repeat(5000), 'too_deep'],
    [`${'91'.repeat(33)}00`, 'too_deep'],
  ])('%s', (bytes, expected) => {
    expect(msgpack(hex(bytes))).toEqual(expected)
  })

  it('arrays that announce more than they hold take no memory', () => {
    const start = process.memoryUsage().rss
    for (let round = 0; round < 50; round++) msgpack(Buffer.from('dd00100000'.repeat(31), 'hex'))
    expect(process.memoryUsage().rss - start).toBeLessThan(200 * 1024 * 1024)
  })
})

describe('SenML in CBOR', () => {
  const senml = (value: unknown) => decoded('application/senml+cbor', encodeCbor(value), '/v1/telemetry')
  const record = (pairs: [number | string, unknown][]) => new Map<number | string, unknown>(pairs)

  it('knows labels by number and by text', () => {
    expect(
      senml([
        record([
          [-2, 'urn:dev:mac:1:'],
          [-5, 20],
          ['n', 'a'],
          [2, 1.5],
        ]),
      ]),
    ).toEqual(['urn:dev:mac:1 a 21.5 null'])
    expect(
      senml([
        record([
          [0, 'a'],
          [2, 1],
          [99, 'x'],
          [-7, 'y'],
          ['later', 1],
        ]),
      ]),
    ).toEqual(['me-1 a 1 null'])
    expect(
      senml([
        record([
          [0, 'a'],
          [2, 1],
          ['must_', 1],
        ]),
      ]),
    ).toBe('unsupported')
    expect(
      senml([
        record([
          [0, 'a'],
          [2, 1],
          ['v', 2],
        ]),
      ]),
      'one label twice',
    ).toBe('malformed')
  })

  it('sums and bases of integers beyond a double stay exact', () => {
    const large = 2n ** 60n
    expect(
      senml([
        record([
          [-5, large],
          [0, 'a'],
          [2, 1],
        ]),
      ]),
    ).toEqual([`me-1 a "${large + 1n}" null`])
    expect(
      senml([
        record([
          [-5, large],
          [0, 'a'],
          [2, 0.5],
        ]),
      ]),
    ).toEqual([`me-1 a ${Number(large)} null`])
    expect(
      senml([
        record([
          [0, 'a'],
          [5, large],
        ]),
      ]),
    ).toEqual([`me-1 a.sum "${large}" null`])
  })

  it.each([
    [
      [
        record([
          [0, 'a'],
          [3, new Uint8Array([1])],
        ]),
      ],
      'bad_value',
    ],
    [
      [
        record([
          [0, 'a'],
          [4, 1],
        ]),
      ],
      'bad_value',
    ],
    [
      [
        record([
          [0, 'a'],
          [2, 1],
          [6, 'x'],
        ]),
      ],
      'bad_time',
    ],
    [
      [
        record([
          [0, 'a'],
          [2, 1],
          [3, 'x'],
        ]),
      ],
      'bad_value',
    ],
    [[new Uint8Array([1])], 'malformed'],
    [record([[0, 'a']]), 'malformed'],
    [
      [
        record([
          [0, 'a'],
          [8, new Uint8Array([251, 255])],
        ]),
      ],
      ['me-1 a "-_8" null'],
    ],
  ])('%j is %s', (value, expected) => {
    expect(senml(value)).toEqual(expected)
  })

  it('white space alone is empty', () => {
    expect(decoded('application/senml+cbor', Buffer.from(' \n'), '/v1/telemetry')).toBe('empty')
  })
})
