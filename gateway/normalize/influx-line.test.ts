import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { chooseCodec } from './choose-codec.ts'
import { CodecInput } from './codec-input.ts'
import { DecodeError } from './decode-error.ts'
import { EdgeNodes } from './edge-nodes.ts'
import { splitInfluxLines } from './split-influx-lines.ts'

const seed = Number(process.env.FUZZ_SEED ?? Date.now() % 1_000_000)
console.info(`influx-line: FUZZ_SEED=${seed}`)

/** Each reading as `device metric value time`, or the error's code. */
function decoded(payload: string | Buffer, topic = '/api/v2/write'): string[] | string {
  const input = new CodecInput(Buffer.from(payload), {
    transport: topic.startsWith('/') ? 'http' : 'mqtt',
    topic,
    contentType: undefined,
    headers: undefined,
    tenant: 'default',
    edgeNodes: new EdgeNodes(),
    arrivalUs: 0,
    transportDevice: 'w',
    device: undefined,
    fleet: false,
    arrayElement: false,
  })
  try {
    const { readings } = chooseCodec(input).decode(input)
    return readings.map(({ device, metric, value, timeUs }) => `${device} ${metric} ${JSON.stringify(value)} ${timeUs}`)
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error
    return error.code
  }
}

const lines = (body: string, maxItems = 1000) => splitInfluxLines(Buffer.from(body), maxItems).map(String)

describe('timestamps', () => {
  it.each([
    ['ns', '1700000000123456499', 1_700_000_000_123_456],
    ['ns', '1700000000123456500', 1_700_000_000_123_457],
    // As a double this is …457 already before it is divided.
    ['n', '1699999999999999499', 1_699_999_999_999_999],
    ['us', '1700000000123457', 1_700_000_000_123_457],
    ['u', '1700000000123457', 1_700_000_000_123_457],
    ['ms', '1700000000123', 1_700_000_000_123_000],
    ['m', '28333333', 1_699_999_980_000_000],
    ['h', '472222', 1_699_999_200_000_000],
    ['', '1700000000000000000', 1_700_000_000_000_000],
    ['s', '-5', undefined],
    ['s', '9'.repeat(400), undefined],
    ['ns', '7', undefined],
  ])('precision %j: %s', (precision, timestamp, timeUs) => {
    expect(decoded(`m x=1 ${timestamp}`, `/write?db=d&precision=${precision}`)).toEqual([`w m.x 1 ${timeUs}`])
  })

  it.each(['1.5', '1e9', '+', '-', '1 2', '0x1'])('%j is none', (timestamp) => {
    expect(decoded(`m x=1 ${timestamp}`)).toBe('bad_time')
  })

  it('the name of the precision may be percent-encoded', () => {
    expect(decoded('m x=1 1700000000', '/write?%70recision=s')).toEqual(['w m.x 1 1700000000000000'])
  })

  it('a query says nothing over MQTT', () => {
    expect(decoded('m x=1', 'telegraf/a?precision=fortnight')).toEqual(['w m.x 1 undefined'])
  })
})

it.each([
  ['18446744073709551615u', '"18446744073709551615"'],
  ['18446744073709551616u', 'bad_value'],
  ['-1u', 'bad_value'],
  ['9007199254740992i', '"9007199254740992"'],
  ['-9007199254740991i', '-9007199254740991'],
  ['-9223372036854775809i', 'bad_value'],
  [`${'0'.repeat(30)}7i`, '7'],
  [`${'9'.repeat(100_000)}i`, 'bad_value'],
  ['1e400', 'bad_value'],
  ['-Inf', 'bad_value'],
  ['1_0', 'malformed'],
  ['.', 'malformed'],
  ['1.5i', 'malformed'],
  ['tRUE', 'malformed'],
  ['""', '""'],
  ['"a', 'malformed'],
  ['"a"b', 'malformed'],
  ['"\\n\\\\\\""', JSON.stringify('\\n\\"')],
  ['', 'malformed'],
])('a field of %.40s is %s', (field, expected) => {
  const result = decoded(`m x=${field}`)
  expect(result).toEqual(
    /^\w+_?\w+$/.test(expected) && !/^\d/.test(expected) ? expected : [`w m.x ${expected} undefined`],
  )
})

it.each([
  'm',
  'm ',
  ',a=b x=1',
  'm,a=b',
  'm,a= x=1',
  'm,=b x=1',
  'm,a x=1',
  'm,a=b,a=c x=1',
  'm x',
  'm x=1,',
  'm =1',
  'm,a=b=c x=1',
])('%j is malformed', (line) => expect(decoded(line)).toBe('malformed'))

it('names are only names', () => {
  expect(decoded('m,__proto__=a,constructor=b,device=d x=1')).toEqual(['d m.x,__proto__=a,constructor=b 1 undefined'])
  expect(decoded('a\\=b\\,c\\ d,t=x\\y\\ z f\\ g\\=h=1')).toEqual(['w a\\=b,c d.f g=h,t=x\\y z 1 undefined'])
})

it('the first of the tags that name a device does', () => {
  expect(decoded('m,host=h,sensor=s x=1')).toEqual(['s m.x,host=h 1 undefined'])
  expect(decoded('m,device=d,device_id=i,sensor_id=t x=1')).toEqual(['i m.x,device=d,sensor_id=t 1 undefined'])
})

describe('a body is split into lines', () => {
  it('without blank ones and comments, whatever ends them', () => {
    expect(lines('# c "\r\n\n  a x=1 \r\n\r\n#\nb x=2')).toEqual(['a x=1 ', 'b x=2'])
    expect(lines('')).toEqual([])
    expect(lines('\n \r\n# only this')).toEqual([])
  })

  it('but not inside a text', () => {
    const text = 'a,t=\\ "q x=1,s="one\ntwo \\" \\\\",y="\n" 5'
    expect(lines(`${text}\nb x=1`)).toEqual([text, 'b x=1'])
  })

  it('quotation marks elsewhere are nothing special', () => {
    expect(lines('a"b,t="x y=1\n"c z=2\nd e"=3\nf g=1"\nh i=1')).toHaveLength(5)
  })

  it('a text without an end takes no other line along', () => {
    expect(lines('a s="x\nb x=1\nc x=2')).toEqual(['a s="x', 'b x=1', 'c x=2'])
  })

  it('no further than one more than allowed', () => {
    expect(lines('a x=1\n'.repeat(10), 3)).toHaveLength(4)
  })
})

it('each line alone means what it means in the body', () => {
  const name = fc.string({ unit: fc.constantFrom('a', '"', '\\', ',', ' ', '=', 'é'), minLength: 1, maxLength: 6 })
  const text = fc.string({ unit: fc.constantFrom('a', '"', '\\', ',', ' ', '=', '\n', '#', 'é'), maxLength: 8 })
  const written = (part: string) => `m${part.replaceAll('\\', '/').replace(/[, =]/g, '\\$&')}`
  const line = fc
    .tuple(name, name, name, text)
    .map(([tag, value, key, string]) => [
      `x,${written(tag)}=${written(value)} ${written(key)}="${string.replace(/["\\]/g, '\\$&')}" 1700000000000000000`,
      `w x.m${key.replaceAll('\\', '/')},m${tag.replaceAll('\\', '/')}=m${value.replaceAll('\\', '/')} ${JSON.stringify(string)} 1700000000000000`,
    ])
  fc.assert(
    fc.property(fc.array(line, { minLength: 1, maxLength: 5 }), (examples) => {
      const body = examples.map(([written]) => written).join('\n')
      const expected = examples.map(([, reading]) => reading)
      expect(decoded(body)).toEqual(expected)
      expect(lines(body).flatMap((line) => decoded(line))).toEqual(expected)
    }),
    { seed, numRuns: 300 },
  )
})

it('whatever comes gives readings or an error, and splitting loses no line', () => {
  const soup = fc.string({
    unit: fc.constantFrom('m', ',', '=', ' ', '"', '\\', '\n', '\r', '1', 'i', '#', '-', '.', 'e'),
  })
  fc.assert(
    fc.property(soup, (body) => {
      expect(decoded(body)).toBeDefined()
      const parts = lines(body).join('').replace(/\s/g, '')
      for (const part of lines(body)) expect(body).toContain(part)
      if (!body.includes('#')) expect(parts).toBe(body.replace(/\s/g, ''))
    }),
    { seed, numRuns: 500 },
  )
})

it.each([
  ['tags', `m${',a=b'.repeat(250_000)} x=1`],
  ['fields', `m ${'a=1,'.repeat(250_000)}a=1`],
  ['escapes', `${'\\ '.repeat(500_000)} x=1`],
  ['texts without an end', 'a s="\\\n'.repeat(120_000)],
  ['digits', `m x=${'1'.repeat(1_000_000)}x`],
])('a body full of %s takes linear time', (_what, body) => {
  const start = performance.now()
  lines(body, 10_000_000)
  decoded(body)
  expect(performance.now() - start).toBeLessThan(2000)
})
