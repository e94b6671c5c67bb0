import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fleetMembers, splitArray, splitMembers } from './split-json.ts'

const seed = Number(process.env.FUZZ_SEED ?? Date.now() % 1_000_000)
console.info(`split-json: FUZZ_SEED=${seed}`)
const many = { seed, numRuns: 3000 }

const texts = (parts: readonly Buffer[] | undefined) => parts?.map((part) => part.toString())
const members = (body: string, maxItems?: number) =>
  splitMembers(Buffer.from(body), maxItems)?.map(({ key, value }) => [key, value.toString()])

/** JSON-like rubbish: whole and broken pieces in any order, which finds more than bytes at random. */
const rubbish = fc
  .array(
    fc.constantFrom(
      '[',
      ']',
      '{',
      '}',
      ',',
      ':',
      '"',
      '\\',
      ' ',
      '\n',
      '"a"',
      '"b\\"',
      '1',
      'null',
      '{"a":1}',
      '[1,2]',
      'é',
      '\u0000',
    ),
    { maxLength: 25 },
  )
  .map((pieces) => pieces.join(''))
const bodies = fc.oneof(
  rubbish,
  fc.json(),
  fc.json().map((json) => `[${json}]`),
  rubbish.map((inner) => `[${inner}]`),
  rubbish.map((inner) => `{${inner}}`),
)

function parsed(text: string): { value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) }
  } catch {
    return undefined
  }
}

describe('splitArray', () => {
  it('gives the bytes of each element', () => {
    expect(texts(splitArray(Buffer.from(' [ {"a":[1,2]} ,"x,]\\"" , 5 ]\r\n')))).toEqual([
      '{"a":[1,2]}',
      '"x,]\\""',
      '5',
    ])
    expect(splitArray(Buffer.from('[]'))).toEqual([])
    expect(splitArray(Buffer.from('[ \n ]'))).toEqual([])
  })

  it('lets a broken element stand beside sound ones', () => {
    expect(texts(splitArray(Buffer.from('[{"a":1}, {"b":NaN}, tru, {"c":1], "d" 4, {"e":5}]')))).toEqual([
      '{"a":1}',
      '{"b":NaN}',
      'tru',
      '{"c":1]',
      '"d" 4',
      '{"e":5}',
    ])
  })

  it.each([
    '',
    ' ',
    '[',
    ']',
    '{}',
    '[1',
    '1]',
    '[1]]',
    '[1],[2]',
    '[1,]',
    '[,1]',
    '[1,,2]',
    '["a]',
    '[{"a":1]',
    '[1}',
    '[1]x',
    '\v[1]',
  ])('gives undefined for %j', (body) => {
    expect(splitArray(Buffer.from(body))).toBeUndefined()
  })

  it('stops one element past the bound', () => {
    expect(splitArray(Buffer.from('[1,2,3,4,5]'), 5)).toHaveLength(5)
    expect(splitArray(Buffer.from('[1,2,3,4,5]'), 4)).toHaveLength(5)
    expect(splitArray(Buffer.from('[1,2,3,4,5]'), 2)).toHaveLength(3)
  })

  it('takes nesting of any depth without recursion', () => {
    const depth = 400_000
    expect(splitArray(Buffer.from(`[${'['.repeat(depth)}${']'.repeat(depth)},1]`))?.[1]?.toString()).toBe('1')
  })

  it('agrees with JSON.parse', () => {
    fc.assert(
      fc.property(bodies, (body) => {
        const parts = texts(splitArray(Buffer.from(body)))
        const whole = parsed(body)
        if (whole !== undefined)
          expect(parts?.map((part) => JSON.parse(part))).toEqual(Array.isArray(whole.value) ? whole.value : undefined)
        else if (parts !== undefined) expect(parts.map(parsed)).toContain(undefined)
      }),
      many,
    )
  })

  it('takes any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const body = Buffer.concat([Buffer.from('['), bytes, Buffer.from(']')])
        for (const part of splitArray(body) ?? []) expect(part.length).toBeGreaterThan(0)
        splitMembers(body)
      }),
      many,
    )
  })
})

describe('splitMembers', () => {
  it('gives keys and the bytes of their values', () => {
    expect(members(' {"a" : [1] , "b\\u0041": {"x":"}"},"":null}')).toEqual([
      ['a', '[1]'],
      ['bA', '{"x":"}"}'],
      ['', 'null'],
    ])
    expect(members('{}')).toEqual([])
    expect(members('{"__proto__":1,"constructor":2,"a":3,"a":4}')).toEqual([
      ['__proto__', '1'],
      ['constructor', '2'],
      ['a', '3'],
      ['a', '4'],
    ])
  })

  it.each([
    '',
    '{',
    '}',
    '[]',
    '{"a"}',
    '{"a":}',
    '{"a":1,}',
    '{a:1}',
    '{"a":1}}',
    '{"a":1]',
    '{"a:1}',
    '{"a":1} {"b":2}',
    '{"\\x":1}',
    '{"a\n":1}',
  ])('gives undefined for %j', (body) => {
    expect(splitMembers(Buffer.from(body))).toBeUndefined()
  })

  it('gives undefined for a key that is no UTF-8', () => {
    expect(splitMembers(Buffer.from('{"\xff":1}', 'latin1'))).toBeUndefined()
  })

  it('stops one member past the bound', () => {
    expect(members('{"a":1,"b":2,"c":3}', 3)).toHaveLength(3)
    expect(members('{"a":1,"b":2,"c":3,"d":4}', 2)).toHaveLength(3)
  })

  it('agrees with JSON.parse', () => {
    fc.assert(
      fc.property(bodies, (body) => {
        const parts = splitMembers(Buffer.from(body))
        const whole = parsed(body)
        if (whole === undefined) {
          if (parts !== undefined) expect(parts.map(({ value }) => parsed(value.toString()))).toContain(undefined)
        } else if (typeof whole.value !== 'object' || whole.value === null || Array.isArray(whole.value))
          expect(parts).toBeUndefined()
        else {
          const rebuilt = parts?.map(({ key, value }) => `${JSON.stringify(key)}:${value.toString()}`).join(',')
          expect(JSON.parse(`{${rebuilt}}`)).toEqual(whole.value)
        }
      }),
      many,
    )
  })
})

describe('fleetMembers', () => {
  const fleet = (body: string) => fleetMembers(Buffer.from(body))?.map(({ key, value }) => [key, value.toString()])

  it('takes an object of arrays', () => {
    expect(fleet('{"a":[{"n":1},{"n":2}],"b/c":[]}')).toEqual([
      ['a', '[{"n":1},{"n":2}]'],
      ['b/c', '[]'],
    ])
  })

  it.each(['{}', '[]', '5', '{"a":{"n":1}}', '{"a":[1],"b":2}', '{"values":{"a":1}}', '{"a":[1]'])(
    '%s is none',
    (body) => {
      expect(fleet(body)).toBeUndefined()
    },
  )
})
