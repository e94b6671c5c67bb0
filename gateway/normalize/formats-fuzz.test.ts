import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { encode as encodeMsgpack } from '@msgpack/msgpack'
import { encode as encodeCbor, Tag } from 'cbor2'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeTelemetry, encodeTelemetry } from '#schema/telemetry-record.ts'
import type { Ingress } from '../ingress.ts'
import { createNormalizer } from './create-normalizer.ts'
import { EdgeNodes } from './edge-nodes.ts'
import { fleetOf, ingress } from './normalized.fixture.ts'

/** Formats that are no plain JSON: built by their structure, then bent a little, since bytes at random do not come far into a decoder. */
const seed = Number(process.env.FUZZ_SEED ?? Date.now() % 1_000_000)
console.info(`formats: FUZZ_SEED=${seed}`)

const gateway = fleetOf('gw-1')
const name = fc.oneof(
  fc.constantFrom(
    'bn',
    'n',
    'v',
    'vs',
    'vb',
    'vd',
    's',
    't',
    'bt',
    'bu',
    'bv',
    'bs',
    'bver',
    'values',
    'value',
    'unit',
  ),
  fc.constantFrom('id', 'ts', 'device', '__proto__', 'constructor', 'must_', ''),
  fc.string({ unit: 'binary', maxLength: 6 }),
)
const scalar = fc.oneof(
  fc.double(),
  fc.integer(),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }),
  fc.string({ unit: 'grapheme', maxLength: 6 }),
  fc.uint8Array({ maxLength: 6 }),
  fc.constantFrom(null, true, false, 'urn:dev:mac:1:', 1.7e9, '2026-01-15T12:00:00Z'),
)
const { document } = fc.letrec<{ document: unknown }>((tie) => ({
  document: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    scalar,
    fc.array(tie('document'), { maxLength: 4 }),
    fc.array(fc.tuple(name, tie('document')), { maxLength: 5 }).map((pairs) => Object.fromEntries(pairs)),
  ),
}))
const tagged = fc
  .tuple(fc.constantFrom(0, 1, 2, 3, 4, 5, 24, 35, 55_799), document)
  .map(([tag, value]) => new Tag(tag, value))
const labelled = fc.array(
  fc
    .array(fc.tuple(fc.integer({ min: -7, max: 9 }), fc.oneof(scalar, tagged)), { maxLength: 6 })
    .map((pairs) => new Map(pairs)),
  { maxLength: 4 },
)

const pack = fc
  .array(
    fc
      .tuple(
        fc.constantFrom('a', 'b:1'),
        fc.double({ noNaN: true }),
        fc.option(fc.tuple(fc.integer({ min: -7, max: 9 }), scalar)),
      )
      .map(
        ([name, value, more]) => new Map<number, unknown>([[0, name], [2, value], ...(more === null ? [] : [more])]),
      ),
    { minLength: 1, maxLength: 3 },
  )
  .map((records) => Buffer.from(encodeCbor(records)))

const msgpackBytes = document.map((value) => {
  try {
    return Buffer.from(encodeMsgpack(value, { useBigInt64: true }))
  } catch {
    return Buffer.from([0xc0]) // what its writer refuses
  }
})
const cborBytes = fc.oneof(document, tagged, labelled).map((value) => Buffer.from(encodeCbor(value)))

const uint64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
const metric = fc.record(
  {
    name: fc.constantFrom('a', 'b', 'bdSeq', 'Node Control/Rebirth', '', '\ud800x'),
    alias: fc.oneof(fc.bigInt({ min: 0n, max: 5n }), uint64),
    timestamp: fc.oneof(fc.constant(1_768_478_400_000n), uint64),
    datatype: fc.integer({ min: 0, max: 40 }),
    isNull: fc.boolean(),
    int: fc.nat(),
    long: uint64,
    float: fc.float(),
    double: fc.double(),
    flag: fc.boolean(),
    text: fc.string({ maxLength: 5 }),
    bytes: fc.uint8Array({ maxLength: 5 }),
    other: fc.uint8Array({ maxLength: 5 }),
  },
  { requiredKeys: [] },
)
type Metric = Partial<{
  name: string
  alias: bigint
  timestamp: bigint
  datatype: number
  isNull: boolean
  int: number
  long: bigint
  float: number
  double: number
  flag: boolean
  text: string
  bytes: Uint8Array
  other: Uint8Array
}>

const sparkplugBytes = fc.array(metric, { maxLength: 4 }).map((metrics: Metric[]) => {
  const writer = new BinaryWriter().tag(1, WireType.Varint).uint64(1_768_478_400_000n)
  for (const each of metrics) writer.tag(2, WireType.LengthDelimited).bytes(metricBytes(each))
  return Buffer.from(writer.tag(3, WireType.Varint).uint64(7n).finish())
})

function metricBytes(each: Metric): Uint8Array {
  const writer = new BinaryWriter()
  if (each.name !== undefined) writer.tag(1, WireType.LengthDelimited).string(each.name)
  if (each.alias !== undefined) writer.tag(2, WireType.Varint).uint64(each.alias)
  if (each.timestamp !== undefined) writer.tag(3, WireType.Varint).uint64(each.timestamp)
  if (each.datatype !== undefined) writer.tag(4, WireType.Varint).uint32(each.datatype)
  if (each.isNull !== undefined) writer.tag(7, WireType.Varint).bool(each.isNull)
  if (each.int !== undefined) writer.tag(10, WireType.Varint).uint32(each.int)
  if (each.long !== undefined) writer.tag(11, WireType.Varint).uint64(each.long)
  if (each.float !== undefined) writer.tag(12, WireType.Bit32).float(each.float)
  if (each.double !== undefined) writer.tag(13, WireType.Bit64).double(each.double)
  if (each.flag !== undefined) writer.tag(14, WireType.Varint).bool(each.flag)
  if (each.text !== undefined) writer.tag(15, WireType.LengthDelimited).string(each.text)
  if (each.bytes !== undefined) writer.tag(16, WireType.LengthDelimited).bytes(each.bytes)
  if (each.other !== undefined) writer.tag(18, WireType.LengthDelimited).bytes(each.other)
  return writer.finish()
}

const jsonText = (value: unknown) =>
  JSON.stringify(value, (_, each: unknown) => (typeof each === 'bigint' ? Number(each) : each)) ?? 'null'
const attribute = fc.oneof({ weight: 5, arbitrary: fc.constantFrom('1.0', '/s', 'd', 'application/json') }, scalar)
const event = fc
  .record(
    {
      specversion: fc.oneof({ weight: 9, arbitrary: fc.constant('1.0') }, attribute),
      id: attribute,
      source: attribute,
      type: attribute,
      subject: attribute,
      time: fc.oneof(fc.constant('2026-01-15T12:00:00Z'), attribute),
      datacontenttype: fc.oneof(fc.constantFrom('application/json', 'application/senml+json'), attribute),
      data: document,
      data_base64: fc.oneof(fc.constant('eyJhIjoxfQ=='), attribute),
    },
    { requiredKeys: ['specversion', 'id', 'source', 'type'] },
  )
  .map((value) => Buffer.from(jsonText(value)))

/** Left alone more often than not. */
function bent(bytes: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> {
  return fc.tuple(bytes, fc.nat(3), fc.nat(), fc.nat(255)).map(([whole, how, at, byte]) => {
    if (how === 1) return whole.subarray(0, at % (whole.length + 1))
    if (how !== 2 || whole.length === 0) return whole
    const changed = Buffer.from(whole)
    changed[at % changed.length] = byte
    return changed
  })
}

const headers = fc
  .dictionary(
    fc.constantFrom(
      'ce-specversion',
      'ce-id',
      'ce-source',
      'ce-type',
      'ce-subject',
      'ce-time',
      'x-limit-u',
      'x-limit-d',
    ),
    fc.oneof(fc.constantFrom('1.0', 'a', '%41%', '%ff'), fc.string({ maxLength: 5 })),
  )
  .map((pairs) => new Map(Object.entries(pairs)))

const mqtt = (payload: Buffer, topic: string, contentType?: string): Ingress =>
  ingress(payload, { principal: gateway, topic, contentType })
const message = fc.oneof(
  bent(cborBytes).map((bytes) => mqtt(bytes, 'devices/me/telemetry', 'application/cbor')),
  bent(fc.oneof(cborBytes, pack)).map((bytes) => mqtt(bytes, 'x/y', 'application/senml+cbor')),
  bent(msgpackBytes).map((bytes) => mqtt(bytes, 'devices/me/telemetry', 'application/msgpack')),
  fc
    .tuple(
      bent(sparkplugBytes),
      fc.constantFrom(
        'NBIRTH/N',
        'NDATA/N',
        'NDATA/M',
        'NDEATH/N',
        'DBIRTH/N/D',
        'DDATA/N/D',
        'DDEATH/N/D',
        'NCMD/N',
        'X/N',
      ),
    )
    .map(([bytes, place]) => mqtt(bytes, `spBv1.0/G/${place}`)),
  bent(event).map((bytes) => mqtt(bytes, 'x', 'application/cloudevents+json')),
  fc
    .tuple(
      bent(document.map((value) => Buffer.from(jsonText(value)))),
      headers,
      fc.constantFrom('/pub', '/v1/telemetry'),
    )
    .map(
      ([payload, carried, topic]): Ingress => ({
        ...ingress(payload, { principal: gateway, topic, headers: carried, contentType: 'application/json' }),
        source: 'http',
      }),
    ),
)

it('any messages give what a worker takes, or an error that says why', () => {
  const codes = new Map<string, number>()
  const codecs = new Map<string, number>()
  fc.assert(
    fc.property(fc.array(message, { minLength: 1, maxLength: 8 }), (batch) => {
      const edgeNodes = new EdgeNodes()
      const normalizer = createNormalizer({
        retentionMs: undefined,
        authenticator: { admitDevice: () => 'admitted' },
        edgeNodes,
      })
      for (const outcome of normalizer.normalize(batch)) {
        if (outcome.kind === 'dead') {
          expect(outcome.deadLetter.message).not.toBe('decoder failure')
          codes.set(outcome.deadLetter.code, (codes.get(outcome.deadLetter.code) ?? 0) + 1)
        }
        if (outcome.kind !== 'events') continue
        for (const sent of outcome.events) {
          codecs.set(sent.codec, (codecs.get(sent.codec) ?? 0) + 1)
          const { key, value } = encodeTelemetry(sent)
          expect(decodeTelemetry(Buffer.from(key), Buffer.from(value as string))).toEqual(sent)
        }
      }
      expect(edgeNodes.count).toBeLessThanOrEqual(2)
    }),
    { seed, numRuns: 1500 },
  )
  expect([...codecs.keys()].sort(), 'every format was taken').toEqual(
    expect.arrayContaining(['cbor', 'cloudevents', 'msgpack', 'senml-cbor', 'sparkplug-b']),
  )
  expect([...codes.keys()]).toEqual(expect.arrayContaining(['malformed', 'bad_value', 'unsupported', 'unknown_alias']))
})

describe('time grows about as the input does', () => {
  const json = (text: string, topic = 'devices/me/telemetry') => mqtt(Buffer.from(text), topic)
  const parts = (size: number, part: string) => part.repeat(Math.ceil(size / part.length))
  const hex = (head: string, size: number, part: string) =>
    Buffer.concat([Buffer.from(head, 'hex'), Buffer.from(parts(size * 2, part), 'hex')])
  const hostile: [name: string, message: (size: number) => Ingress][] = [
    [
      'long keys under long keys',
      (size) => json(`${parts(size / 2, `{"${'k'.repeat(size / 64)}":`)}{${parts(size / 2, '"a":1,')}"b":1}`),
    ],
    ['a time of many digits', (size) => json(`{"ts":"${parts(size, '1')}","a":1}`)],
    ['a time with many decimals', (size) => json(`{"ts":"2026-01-15T12:00:00.${parts(size, '1')}","a":1}`)],
    ['a number of many digits', (size) => json(`{"a":${parts(size, '1')}}`)],
    ['a text number of many digits', (size) => json(`${parts(size, '1')}x`)],
    ['a text of spaces', (size) => json(`x${parts(size, ' ')}x`)],
    ['escapes', (size) => json(`{"a":"${parts(size, '\\\\')}"}`)],
    ['tags of line protocol', (size) => json(`m${parts(size, ',a=1')} f=1`, 'telegraf/x')],
    [
      'different tags of line protocol',
      (size) => json(`m${Array.from({ length: size / 12 }, (_, at) => `,t${at}=1`).join('')} f=1`, 'telegraf/x'),
    ],
    ['escapes of line protocol', (size) => json(`m,a=${parts(size, '\\,')} f=1`, 'telegraf/x')],
    ['an integer of line protocol', (size) => json(`m f=${parts(size, '9')}i`, 'telegraf/x')],
    [
      'SenML names',
      (size) => mqtt(Buffer.from(`[{"bn":"${parts(size, 'a:')}","v":1}]`), 'x', 'application/senml+json'),
    ],
    [
      'SenML data',
      (size) => mqtt(Buffer.from(`[{"n":"a","vd":"${parts(size, 'A')}!"}]`), 'x', 'application/senml+json'),
    ],
    [
      'SenML records',
      (size) => mqtt(Buffer.from(`[${parts(size, '{"bn":"a"},')}{"bn":"a"}]`), 'x', 'application/senml+json'),
    ],
    [
      'base64 of an event',
      (size) =>
        mqtt(
          Buffer.from(
            `{"specversion":"1.0","id":"1","source":"s","type":"t","datacontenttype":"application/json","data_base64":"${parts(size, 'A')}!"}`,
          ),
          'x',
        ),
    ],
    [
      'a content type',
      (size) => ({ ...mqtt(Buffer.from('1'), '/v1/telemetry', parts(size, ';charset="')), source: 'http' }),
    ],
    [
      'a content type of spaces',
      (size) => ({ ...mqtt(Buffer.from('1'), '/v1/telemetry', `;${parts(size, ' ')}charset`), source: 'http' }),
    ],
    ['CBOR arrays', (size) => mqtt(hex('9f', size, '80'), 'x', 'application/cbor')],
    ['CBOR tags', (size) => mqtt(hex('9f', size, 'c6c6c6c600'), 'x', 'application/cbor')],
    ['CBOR parts of a text', (size) => mqtt(hex('7f', size, '6161'), 'x', 'application/cbor')],
    [
      'CBOR bignum',
      (size) =>
        mqtt(
          Buffer.concat([Buffer.from([0xc2, 0x5a]), lengthOf(size), Buffer.alloc(size, 1)]),
          'x',
          'application/cbor',
        ),
    ],
    ['MessagePack maps', (size) => mqtt(hex('ddffffffff', size, '81a161c0'), 'x', 'application/msgpack')],
    ['MessagePack arrays that announce', (size) => mqtt(hex('', size, 'dd00010000'), 'x', 'application/msgpack')],
    ['Sparkplug metrics', (size) => mqtt(hex('', size, '12020a00'), 'spBv1.0/G/NBIRTH/N')],
    ['Sparkplug names', (size) => mqtt(hex('', size, '12070a01614001' + '2004'), 'spBv1.0/G/NBIRTH/N')],
    ['Sparkplug groups', (size) => mqtt(hex('', size, '1b'), 'spBv1.0/G/NDATA/N')],
    ['Sparkplug fields that nobody knows', (size) => mqtt(hex('', size, 'a00601'), 'spBv1.0/G/NDATA/N')],
  ]

  it.each(hostile)('%s', (_, messageOf) => {
    const normalizer = createNormalizer({ retentionMs: undefined, authenticator: { admitDevice: () => 'admitted' } })
    const timeOf = (input: Ingress) => {
      let bestMs = Number.POSITIVE_INFINITY
      for (let round = 0; round < 4; round++) {
        // This thread's own time: what else the machine does says nothing of the input.
        const { user: startUs } = process.threadCpuUsage()
        normalizer.normalize([input])
        bestMs = Math.min(bestMs, (process.threadCpuUsage().user - startUs) / 1000)
      }
      return bestMs
    }
    const small = timeOf(messageOf(65_536))
    const large = timeOf(messageOf(16 * 65_536))
    // 16 times the input: quadratic work would take 256 times as long, which from a millisecond on is seen behind all noise.
    expect(large).toBeLessThan(64 * small + 100)
  })
})

function lengthOf(size: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(size)
  return bytes
}
