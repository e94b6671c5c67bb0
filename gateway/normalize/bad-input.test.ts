import { describe, expect, it } from 'vitest'
import {
  arrivalUs,
  codeOf,
  deadLetterOf,
  eventOf,
  eventsOf,
  gateway,
  http,
  ingress,
  outcomeOf,
  pump,
} from './normalized.fixture.ts'

describe('bad input', () => {
  const json = (value: unknown) => ingress(JSON.stringify(value))

  it.each([
    ['nothing', '', 'empty'],
    ['white space', ' \r\n\t', 'empty'],
    ['broken JSON', '{"t":1,', 'malformed'],
    ['two documents', '{"t":1}{"t":2}', 'malformed'],
    ['NaN', '{"t":NaN}', 'malformed'],
    ['NaN as text', 'NaN', 'bad_value'],
    ['1e400', '{"t":1e400}', 'bad_value'],
    ['1e400 deep inside', '{"values":{"a":{"b":[1,-1e400]}}}', 'bad_value'],
    ['1e400 as text', '1e400', 'bad_value'],
    ['a bare array', '[1,2,3]', 'bad_value'],
    ['an array in an array', '[[{"a":1}]]', 'bad_value'],
    ['depth 40', `${'['.repeat(40)}${']'.repeat(40)}`, 'too_deep'],
    [
      'depth 40 in a key that says nothing',
      `{"values":{"a":1},"fw":${'{"a":'.repeat(40)}1${'}'.repeat(40)}}`,
      'too_deep',
    ],
    ['depth 100,000', '['.repeat(100_000), 'too_deep'],
    ['1,001 readings', JSON.stringify({ a: Array(1001).fill(0) }), 'too_many_readings'],
    ['a time of the wrong type', '{"ts":{},"values":{"a":1}}', 'bad_time'],
    ['a time in words', '{"ts":"soon","values":{"a":1}}', 'bad_time'],
    ['an empty device', '{"device":"","a":1}', 'no_device'],
    ['an empty metric', '{"":1}', 'bad_value'],
    ['NUL in a text', '{"a":"x\\u0000y"}', 'bad_value'],
    ['NUL in plain text', 'x\0y', 'bad_value'],
    ['NUL in a metric', '{"a\\u0000":1}', 'bad_value'],
    ['NUL in a unit', '{"values":{"a":{"value":1,"unit":"\\u0000"}}}', 'bad_value'],
    ['half a surrogate pair in a text', '{"a":"\\ud800"}', 'bad_value'],
    ['half a surrogate pair in a metric', '{"\\udc00":1}', 'bad_value'],
    ['half a surrogate pair in a unit', '{"values":{"a":{"value":1,"unit":"\\ud83d"}}}', 'bad_value'],
  ])('%s is parked', (_, body, code) => {
    expect(codeOf(ingress(body))).toBe(code)
  })

  it('bytes that are no UTF-8 are parked', () => {
    expect(codeOf(ingress(Buffer.from('{"a":"\xff"}', 'latin1')))).toBe('malformed')
    expect(codeOf(ingress(Buffer.from([0xed, 0xa0, 0x80])))).toBe('malformed')
  })

  it('100,000 keys are parked before they are parsed', () => {
    const body = Buffer.from(
      JSON.stringify(Object.fromEntries(Array.from({ length: 100_000 }, (_, index) => [`k${index}`, index]))),
    )
    expect(codeOf(ingress(body))).toBe('too_many_readings')
    expect(codeOf(ingress(`{"a":[${'null,'.repeat(10_001)}null]}`))).toBe('too_many_readings')
    expect(eventOf(ingress(`{"a":[${'null,'.repeat(9000)}null],"b":"${',\\"'.repeat(2000)}"}`)).readings).toHaveLength(
      1,
    )
  })

  it('lengths count in bytes of UTF-8', () => {
    expect(eventOf(json({ ['é'.repeat(128)]: 1 })).readings).toHaveLength(1)
    expect(codeOf(json({ [`${'é'.repeat(128)}x`]: 1 }))).toBe('bad_value')
    expect(codeOf(json({ ['x'.repeat(257)]: 1 }))).toBe('bad_value')
    expect(eventOf(json({ values: { a: { value: 1, unit: 'é'.repeat(32) } } })).readings).toHaveLength(1)
    expect(codeOf(json({ values: { a: { value: 1, unit: `${'é'.repeat(32)}x` } } }))).toBe('bad_value')
    expect(eventOf(json({ a: '€'.repeat(5461) })).readings).toHaveLength(1)
    expect(codeOf(json({ a: '€'.repeat(5462) }))).toBe('bad_value')
    expect(codeOf(ingress('x'.repeat(1_000_000)))).toBe('bad_value')
  })

  it.each([
    ['+', 'a+b'],
    ['#', '#'],
    ['a leading $', '$SYS'],
    ['300 characters', 'x'.repeat(300)],
    ['129 bytes', `${'é'.repeat(64)}x`],
    ['a control character', 'a\nb'],
    ['DEL', 'a\x7f'],
    ['a C1 control character', 'a\x9fb'],
    ['U+0000', 'a\0'],
    ['half a surrogate pair', 'a\ud800'],
  ])('a device id with %s is parked under the sender', (_, device) => {
    for (const principal of [pump, gateway]) {
      const own = principal.device
      expect(deadLetterOf(outcomeOf(json({ device, a: 1 })))).toMatchObject({ code: 'bad_device', device: 'pump-1' })
      expect(deadLetterOf(outcomeOf(ingress('{"a":1}', http({ principal, device }))))).toMatchObject({
        code: 'bad_device',
        device: own,
      })
    }
  })

  it.each([
    'a/b/c',
    'é',
    'x'.repeat(128),
    'é'.repeat(64),
    "Robert'); DROP TABLE reading;--",
    '__proto__',
    'constructor',
    'a b',
    'a$',
    '💧',
  ])('device id %j is fine', (device) => {
    expect(eventOf(ingress(JSON.stringify({ device, a: 1 }), { principal: gateway })).device).toBe(device)
  })

  it('names of the language are ordinary names', () => {
    const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'valueOf', 'prototype', 'length']
    const body = `{${names.map((name, index) => `"${name}":${index}`).join(',')}}`
    const metrics = (text: string) => eventOf(ingress(text)).readings.map(({ metric, value }) => [metric, value])
    const expected = names.map((name, index) => [name, index])
    expect(metrics(body)).toEqual(expected)
    expect(metrics(`{"values":${body}}`)).toEqual(expected)
    expect(metrics(`{"values":{"a":${body}}}`)).toEqual(expected.map(([name, index]) => [`a.${name}`, index]))
    expect(metrics('{"__proto__":{"values":{"a":1},"device":"x"}}')).toEqual([
      ['__proto__.values.a', 1],
      ['__proto__.device', undefined],
    ])
    expect(
      eventsOf(
        outcomeOf(
          ingress('{"__proto__":[{"n":1}],"constructor":[{"n":2}]}', {
            principal: gateway,
            topic: 'v1/gateway/telemetry',
          }),
        ),
      ).map(({ device }) => device),
    ).toEqual(['__proto__', 'constructor'])
    expect(({} as { a?: unknown }).a).toBeUndefined()
  })

  it('SQL is text', () => {
    const sql = "x'); DROP TABLE reading; --"
    expect(eventOf(json({ [sql]: sql })).readings).toMatchObject([{ metric: sql, text: sql }])
  })

  it.each([
    'application/xml',
    'image/png',
    'application/octet-stream',
    'application/x-cbor',
    'text/html; charset=utf-8',
  ])('content type %s is unsupported over HTTP', (contentType) => {
    for (const body of ['{"a":1}', '<a/>', '', '\xff'])
      expect(['unsupported', 'empty']).toContain(codeOf(ingress(Buffer.from(body, 'latin1'), http({ contentType }))))
    expect(eventOf(ingress('{"a":1}', { contentType })).readings, 'over MQTT it says nothing').toHaveLength(1)
  })

  it.each([
    'application/json; charset=utf-8',
    'Application/JSON',
    'application/x-ndjson',
    'text/plain;charset=us-ascii',
    undefined,
  ])('content type %s is taken', (contentType) => {
    expect(eventOf(ingress('{"a":1}', http({ contentType }))).readings).toHaveLength(1)
  })

  it('declared JSON must be JSON, a plain text need not', () => {
    expect(codeOf(ingress('ON', http()))).toBe('malformed')
    expect(eventOf(ingress('ON', http({ contentType: 'text/plain' }))).readings).toMatchObject([
      { metric: 'value', text: 'ON' },
    ])
    expect(eventOf(ingress('21.5', http())).readings).toMatchObject([{ value: 21.5 }])
  })

  it('an element of a split array must be an object', () => {
    for (const body of ['5', '"x"', 'null', '[{"a":1}]'])
      expect(codeOf(ingress(body, http({ arrayElement: true })))).toBe('bad_value')
    expect(eventOf(ingress('{"a":1}', http({ arrayElement: true }))).readings).toHaveLength(1)
  })

  it('the earlier engine may declare anything', () => {
    const body = '{"device_id":"s","reading_value":1,"reading_type":"t","unit":"C"}'
    expect(
      eventOf(ingress(body, http({ principal: gateway, contentType: 'application/x-www-form-urlencoded' }))).codec,
    ).toBe('seed')
  })
})

describe('a dead letter', () => {
  it('keeps the bytes and says where they came from', () => {
    const payload = Buffer.from('{broken')
    const deadLetter = deadLetterOf(
      outcomeOf(ingress(payload, { contentType: 'application/json', acknowledgesParked: true })),
    )
    expect(deadLetter).toEqual({
      id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      tenant: 'default',
      device: 'pump-1',
      source: 'mqtt',
      topic: 'devices/me/telemetry',
      contentType: 'application/json',
      stage: 'decode',
      code: 'malformed',
      message: expect.stringMatching(/^not JSON: /),
      acknowledged: true,
      ingestTimeUs: arrivalUs,
      payload,
    })
    expect(deadLetter.payload).toBe(payload)
    expect(deadLetterOf(outcomeOf(ingress(payload)))).not.toHaveProperty('contentType')
  })

  it.each(['not_allowed', 'too_many_items'] as const)(
    'is made without decoding where the source parks as %s',
    (park) => {
      const outcome = outcomeOf(ingress('{"a":1}', { topic: 'devices/pump-2/t', park, acknowledgesParked: true }))
      expect(deadLetterOf(outcome)).toMatchObject({ code: park, device: 'pump-1', acknowledged: true })
    },
  )

  it('has a message of one printable line', () => {
    const nasty = '\u0007\n\u001b[31m\u202e\ud800\u2028x'.repeat(30)
    const messages = [
      ingress(JSON.stringify({ device: nasty, a: 1 })),
      ingress(JSON.stringify({ [nasty]: 1 })),
      ingress(JSON.stringify({ ts: nasty, a: 1 })),
      ingress(`{"a":${nasty}}`),
      ingress(`{"${nasty}`),
      ingress('{}', http({ contentType: nasty })),
      ingress(JSON.stringify({ reading_type: 't', reading_value: nasty })),
    ].map((message) => deadLetterOf(outcomeOf(message)).message)
    messages.push(
      (outcomeOf(ingress(JSON.stringify({ device: 'y'.repeat(100), a: 1 }))) as { message: string }).message,
    )
    for (const message of messages) {
      expect(message.length).toBeLessThanOrEqual(200)
      expect(message).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u)
      expect(message).not.toContain('y'.repeat(41))
    }
  })
})
