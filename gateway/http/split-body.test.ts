import { describe, expect, it } from 'vitest'
import { type Split, splitBody } from './split-body.ts'

function split(body: string | Buffer, contentType?: string, { fleet = false, maxItems = 10 } = {}) {
  const found = splitBody(Buffer.from(body), { contentType, fleet, maxItems })
  return found && [found.kind, ...textsOf(found)]
}

function textsOf({ kind, parts }: Split): string[] {
  return kind === 'fleet' ? parts.map(({ key, value }) => `${key}=${value}`) : parts.map((part) => part.toString())
}

describe('arrays', () => {
  it.each([undefined, 'application/json', 'Application/JSON; charset=utf-8'])('are split as %s', (type) => {
    expect(split(' [{"a":1} , {"b":[2,"]"]}]\n', type)).toEqual(['array', '{"a":1}', '{"b":[2,"]"]}'])
  })

  it('stay whole as any other type', () => {
    for (const type of ['text/plain', 'application/senml+json', 'application/octet-stream', 'x'])
      expect(split('[{"a":1},{"b":2}]', type)).toBeUndefined()
  })

  it('stay whole when they are empty or not sound as a whole', () => {
    for (const body of ['[]', '[ ]', '[{"a":1},', '[{"a":1}]]', '[1,,2]', '[,]', '[', '', ' ', '{"a":[1]}', '5'])
      expect(split(body), body).toBeUndefined()
  })

  it('with a broken element are split all the same', () => {
    expect(split('[{"a":1},{"b":NaN},{"c":3}]')).toEqual(['array', '{"a":1}', '{"b":NaN}', '{"c":3}'])
  })

  it('past the bound end one beyond it', () => {
    expect(split('[1,2,3]', undefined, { maxItems: 3 })).toHaveLength(4)
    expect(split('[1,2,3,4,5,6]', undefined, { maxItems: 3 })).toHaveLength(5)
  })
})

describe('lines', () => {
  const type = 'application/x-ndjson'

  it('end with LF or CR LF, the last perhaps with neither, and blank ones are skipped', () => {
    expect(split('{"a":1}\r\n\n  \t\r\n {"b":2} \n{"c":3}', type)).toEqual(['lines', '{"a":1}', '{"b":2}', '{"c":3}'])
    expect(split('{"a":1}\n', `${type}; charset=utf-8`)).toEqual(['lines', '{"a":1}'])
  })

  it('need not be sound each', () => {
    expect(split('{"a":1}\n{oops\n[1,2]', type)).toEqual(['lines', '{"a":1}', '{oops', '[1,2]'])
  })

  it('without one that says something are one message, which is empty', () => {
    for (const body of ['', '\n', ' \r\n\r\n']) expect(split(body, type), JSON.stringify(body)).toBeUndefined()
  })

  it('past the bound end one beyond it', () => {
    expect(split('1\n2\n3\n\n', type, { maxItems: 3 })).toHaveLength(4)
    expect(split('1\n2\n3\n4\n5\n', type, { maxItems: 3 })).toHaveLength(5)
  })
})

describe('fleet bodies', () => {
  const body = '{"a":[{"n":1},{"n":2}], "b/\\u00e9" : [] , "__proto__":[{"n":3}], "constructor":[]}'

  it('are a message a device', () => {
    expect(split(body, 'application/json', { fleet: true })).toEqual([
      'fleet',
      'a=[{"n":1},{"n":2}]',
      'b/é=[]',
      '__proto__=[{"n":3}]',
      'constructor=[]',
    ])
  })

  it('are one message where they may not stand, or when a member is no array', () => {
    expect(split(body)).toBeUndefined()
    expect(split('{"a":[1],"b":2}', undefined, { fleet: true })).toBeUndefined()
    expect(split('{}', undefined, { fleet: true })).toBeUndefined()
  })

  it('past the bound end one beyond it', () => {
    expect(split('{"a":[],"b":[],"c":[]}', undefined, { fleet: true, maxItems: 2 })).toHaveLength(4)
  })
})
