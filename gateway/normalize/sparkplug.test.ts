import { get } from 'sparkplug-payload'
import { describe, expect, it } from 'vitest'
import { createNormalizer } from './create-normalizer.ts'
import { type CaseReading, resultOf } from './decode-case.ts'
import { EdgeNodes } from './edge-nodes.ts'
import { eventsOf, fleetOf, ingress } from './normalized.fixture.ts'
import { readSparkplugPayload, rebirthCommand } from './sparkplug-payload.ts'

type Encoder = NonNullable<ReturnType<typeof get>>
type Metric = NonNullable<Parameters<Encoder['encodePayload']>[0]['metrics']>[number]

const sparkplug = get('spBv1.0') as Encoder
const at = 1_700_000_000_000
const encode = (metrics: Metric[], timestamp = at) =>
  Buffer.from(sparkplug.encodePayload({ timestamp, metrics, seq: 0 }))

class Session {
  readonly edgeNodes = new EdgeNodes()

  /** `device metric value`, or the error's code. */
  send(topic: string, payload: Buffer | Metric[]): string[] | string {
    const bytes = Buffer.isBuffer(payload) ? payload : encode(payload)
    const { result } = resultOf(bytes, { transport: 'mqtt', topic, clientId: 'gw', edgeNodes: this.edgeNodes })
    return 'error' in result ? result.error : result.readings.map(shown)
  }
}

const shown = ({ device, metric, value }: CaseReading) => `${device} ${metric} ${JSON.stringify(value)}`

describe('Sparkplug B', () => {
  const temperature: Metric = { name: 'Temperature', alias: 7, type: 'Double', value: 21.5 }
  const byAlias = (alias: number, value: number): Metric => ({ alias, type: 'Double', value }) as Metric

  it('a session: births, data by alias, a birth of a device that is told anew, death', () => {
    const session = new Session()
    expect(session.send('spBv1.0/G/NBIRTH/N', [temperature])).toEqual(['G/N Temperature 21.5', 'G/N online true'])
    expect(session.send('spBv1.0/G/DBIRTH/N/D', [{ ...temperature, name: 'Level', alias: 8 }])).toEqual([
      'G/N/D Level 21.5',
      'G/N/D online true',
    ])
    expect(session.send('spBv1.0/G/NDATA/N', [byAlias(7, 1)])).toEqual(['G/N Temperature 1'])
    expect(session.send('spBv1.0/G/DDATA/N/D', [byAlias(8, 2), byAlias(7, 3)])).toEqual([
      'G/N/D Level 2',
      'G/N/D Temperature 3',
    ])
    session.send('spBv1.0/G/DBIRTH/N/D', [{ ...temperature, name: 'Height', alias: 9 }])
    expect(session.send('spBv1.0/G/DDATA/N/D', [byAlias(8, 2)])).toBe('unknown_alias')
    expect(session.send('spBv1.0/G/DDATA/N/D', [byAlias(9, 2)])).toEqual(['G/N/D Height 2'])
    expect(session.send('spBv1.0/G/NDEATH/N', [])).toEqual(['G/N online false'])
    expect(session.send('spBv1.0/G/DDEATH/N/D', [])).toEqual(['G/N/D online false'])
    expect(session.send('spBv1.0/H/NDATA/N', [byAlias(7, 1)]), 'a node of another group').toBe('unknown_alias')
  })

  it('every type of value', () => {
    const bytes = new Uint8Array([1, 2, 255])
    const metrics: Metric[] = [
      { name: 'a', type: 'Int8', value: -5 },
      { name: 'b', type: 'UInt16', value: 65_535 },
      { name: 'c', type: 'Float', value: 0.1 },
      { name: 'd', type: 'Boolean', value: false },
      { name: 'e', type: 'String', value: '' },
      { name: 'f', type: 'DateTime', value: at },
      { name: 'g', type: 'Bytes', value: bytes },
      { name: 'h', type: 'Int32', value: null, isNull: true },
      { name: 'i', type: 'UUID', value: 'x-y' },
      { name: 'j', type: 'File', value: bytes },
      { name: 'k', type: 'DataSet', value: { numOfColumns: 1, types: ['Int32'], columns: ['x'], rows: [[1]] } },
    ]
    expect(new Session().send('spBv1.0/G/NDATA/N', metrics)).toEqual([
      'G/N a -5',
      'G/N b 65535',
      'G/N c 0.10000000149011612',
      'G/N d false',
      'G/N e ""',
      'G/N f "2023-11-14T22:13:20.000Z"',
      'G/N g "AQL/"',
      'G/N i "x-y"',
    ])
  })

  it('an integer that does not fit its type is refused, not cut', () => {
    const withInt = (datatype: number, value: number) =>
      Buffer.from([0x12, 7 + (value > 127 ? 1 : 0), 0x0a, 1, 0x61, 0x20, datatype, 0x50, ...varint(value)])
    const session = new Session()
    expect(session.send('spBv1.0/G/NDATA/N', withInt(1, 200))).toEqual(['G/N a -56'])
    expect(session.send('spBv1.0/G/NDATA/N', withInt(1, 300))).toBe('bad_value')
    expect(session.send('spBv1.0/G/NDATA/N', withInt(5, 300))).toBe('bad_value')
    expect(session.send('spBv1.0/G/NDATA/N', withInt(11, 1)), 'no boolean').toBe('bad_value')
  })

  it('a birth that is parked for a value, or too long to store, still names its metrics', () => {
    const session = new Session()
    expect(session.send('spBv1.0/G/NBIRTH/N', [temperature, { name: 'x', type: 'Double', value: Number.NaN }])).toBe(
      'bad_value',
    )
    expect(session.send('spBv1.0/G/NDATA/N', [byAlias(7, 1)])).toEqual(['G/N Temperature 1'])
    const many = Array.from(
      { length: 1200 },
      (_, alias): Metric => ({ name: `m${alias}`, alias, type: 'Double', value: 1 }),
    )
    expect(session.send('spBv1.0/G/NBIRTH/N', many)).toBe('too_many_readings')
    expect(session.send('spBv1.0/G/NDATA/N', [byAlias(1199, 4)])).toEqual(['G/N m1199 4'])
  })

  it.each([
    ['spBv1.0/STATE/host', []],
    ['spBv1.0/STATE', []],
    ['spBv1.0/G/NCMD/N', []],
    ['spBv1.0/G/DCMD/N/D', []],
    ['spBv1.0/G/NDATA', 'malformed'],
    ['spBv1.0/G/NDATA/N/D', 'malformed'],
    ['spBv1.0/G/DDATA/N', 'malformed'],
    ['spBv1.0/G/DDATA/N/D/E', 'malformed'],
    ['spBv1.0/G', 'malformed'],
    ['spBv1.0/G/ndata/N', 'unsupported'],
    ['spBv1.0//NDATA/N', 'no_device'],
    ['spBv1.0/G/DDATA/N/', 'no_device'],
  ])('%s is %j', (topic, expected) => {
    expect(new Session().send(topic, [{ name: 'a', type: 'Int32', value: 1 }])).toEqual(expected)
  })

  it.each([
    ['a metric that ends in the next', [0x12, 2, 0x0a, 5, 0x61, 0x12, 0, 0x12, 0]],
    ['a text that is no UTF-8', [0x12, 4, 0x0a, 2, 0xc3, 0x28]],
    ['a text of the length of the payload', [0x12, 6, 0x0a, 4, 0xff, 0xff, 0xff, 0xff]],
    ['no name and no alias', [0x12, 2, 0x50, 1]],
    ['groups in groups', new Array(5000).fill(0x1b)],
    ['a tag of field 0', [0x00, 0x01]],
    ['a varint without an end', [0x08, ...new Array(20).fill(0xff)]],
    ['a float of two bytes', [0x12, 3, 0x65, 0, 0]],
  ])('%s is malformed', (_, bytes) => {
    expect(new Session().send('spBv1.0/G/NDATA/N', Buffer.from(bytes))).toBe('malformed')
  })

  it('a command for a rebirth is what the specification asks for', () => {
    const decoded = sparkplug.decodePayload(rebirthCommand(at))
    expect(Number(decoded.timestamp)).toBe(at)
    expect(decoded.seq).toBeUndefined()
    expect(decoded.metrics).toMatchObject([{ name: 'Node Control/Rebirth', type: 'Boolean', value: true }])
    expect(readSparkplugPayload(rebirthCommand(at)).metrics).toHaveLength(1)
  })
})

describe('a rebirth', () => {
  const asked: string[] = []
  const normalizer = createNormalizer({
    retentionMs: undefined,
    authenticator: { admitDevice: () => 'admitted' },
    askForBirth: (tenant, node) => asked.push(`${tenant} ${node}`),
  })
  const gateway = fleetOf('gw-1', 'G/*')
  const send = (topic: string, metrics: Metric[], principal = gateway) => {
    asked.length = 0
    const [outcome] = normalizer.normalize([ingress(encode(metrics), { topic, principal })])
    if (outcome === undefined) throw new Error('no outcome')
    return outcome
  }
  const value: Metric = { name: 'a', alias: 1, type: 'Int32', value: 1 }
  const aliased = { alias: 1, type: 'Int32', value: 1 } as Metric

  it('is asked for when an alias is not known, once in a while', () => {
    expect(send('spBv1.0/G/NDATA/N', [aliased])).toMatchObject({ kind: 'dead', deadLetter: { code: 'unknown_alias' } })
    expect(asked).toEqual(['acme G/N'])
    send('spBv1.0/G/NDATA/N', [aliased])
    expect(asked, 'not again at once').toEqual([])
    send('spBv1.0/G/NBIRTH/N', [value])
    expect(eventsOf(send('spBv1.0/G/NDATA/N', [aliased]))[0]?.readings).toMatchObject([{ metric: 'a', value: 1 }])
  })

  it('is asked for when data by name comes before the birth, and the data is taken', () => {
    expect(eventsOf(send('spBv1.0/G/DDATA/M/D', [value]))[0]).toMatchObject({ device: 'G/M/D' })
    expect(asked).toEqual(['acme G/M'])
  })

  it('is not asked of a node that the sender does not speak for', () => {
    send('spBv1.0/Other/NDATA/N', [aliased])
    send('spBv1.0/Other/NDATA/N', [value])
    expect(asked).toEqual([])
  })

  it('of one credential says nothing for another', () => {
    send('spBv1.0/G/NBIRTH/P', [value])
    expect(send('spBv1.0/G/NDATA/P', [aliased], fleetOf('gw-2', 'G/*'))).toMatchObject({ kind: 'dead' })
  })
})

function varint(value: number): number[] {
  return value < 128 ? [value] : [(value & 0x7f) | 0x80, value >> 7]
}
