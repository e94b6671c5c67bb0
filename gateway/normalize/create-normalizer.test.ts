import { describe, expect, it } from 'vitest'
import type { DeadLetter } from '#schema/dead-letter.ts'
import type { TelemetryEvent } from '#schema/telemetry-event.ts'
import type { Authenticator } from '../auth/authenticator.ts'
import { fitsPattern } from '../auth/device-pattern.ts'
import type { Principal } from '../auth/principal.ts'
import type { Ingress } from '../ingress.ts'
import { ArrivalClock } from './arrival-clock.ts'
import { createNormalizer } from './create-normalizer.ts'
import type { Outcome } from './normalizer.ts'

const arrivalMs = Date.UTC(2026, 0, 15, 12)
const arrivalUs = arrivalMs * 1000
const dayMs = 86_400_000

function deviceOf(device: string): Principal {
  return { tenant: 'default', device, fleet: false, credentialId: device, allows: (other) => other === device }
}

function fleetOf(device: string, pattern: string | null = null): Principal {
  return {
    tenant: 'acme',
    device,
    fleet: true,
    credentialId: device,
    allows: (other) => other === device || fitsPattern(pattern, other),
  }
}

const pump = deviceOf('pump-1')
const gateway = fleetOf('gw-1')

function ingress(body: string | Buffer, more: Partial<Ingress> = {}): Ingress {
  return {
    principal: pump,
    source: 'mqtt',
    topic: 'devices/me/telemetry',
    contentType: undefined,
    payload: typeof body === 'string' ? Buffer.from(body) : body,
    device: undefined,
    fleetItem: false,
    acknowledgesParked: false,
    ingestTimeUs: arrivalUs,
    arrivedAtMs: 0,
    ...more,
  }
}

const http = (more: Partial<Ingress> = {}): Partial<Ingress> => ({
  source: 'http',
  topic: '/v1/telemetry',
  contentType: 'application/json',
  ...more,
})

function normalizer(admitDevice: Authenticator['admitDevice'] = () => 'admitted', retentionMs = 90 * dayMs) {
  return createNormalizer({ retentionMs, authenticator: { admitDevice }, clock: new ArrivalClock() })
}

function outcomeOf(message: Ingress, admitDevice?: Authenticator['admitDevice']): Outcome {
  const [outcome] = normalizer(admitDevice).normalize([message])
  if (outcome === undefined) throw new Error('no outcome')
  return outcome
}

function eventsOf(outcome: Outcome): readonly TelemetryEvent[] {
  if (outcome.kind !== 'events') throw new Error(`not stored but ${JSON.stringify(outcome)}`)
  return outcome.events
}

function eventOf(message: Ingress): TelemetryEvent {
  const events = eventsOf(outcomeOf(message))
  expect(events).toHaveLength(1)
  return events[0] as TelemetryEvent
}

function deadLetterOf(outcome: Outcome): DeadLetter {
  if (outcome.kind !== 'dead') throw new Error(`not parked but ${JSON.stringify(outcome)}`)
  return outcome.deadLetter
}

const codeOf = (message: Ingress) => deadLetterOf(outcomeOf(message)).code

describe('an event', () => {
  it('holds what the message said, and whose it is', () => {
    const event = eventOf(
      ingress(
        `{"id":"m-17","ts":${arrivalMs},"values":{"t":{"value":-0,"unit":"°C"},"on":true,"mode":"auto","x":{"y":[7]}}}`,
      ),
    )
    expect(event).toEqual({
      v: 1,
      id: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/),
      messageKey: 'm-17',
      tenant: 'default',
      device: 'pump-1',
      source: 'mqtt',
      codec: 'own',
      ingestTimeUs: arrivalUs,
      readings: [
        { metric: 't', value: 0, unit: 'Cel', eventTimeUs: arrivalUs },
        { metric: 'on', flag: true, eventTimeUs: arrivalUs },
        { metric: 'mode', text: 'auto', eventTimeUs: arrivalUs },
        { metric: 'x.y.0', value: 7, eventTimeUs: arrivalUs },
      ],
    })
    expect(Object.is(event.readings[0]?.value, 0), 'no minus zero').toBe(true)
    expect(event).not.toHaveProperty('gateway')
  })

  it.each([
    ['a text', '"m-1"', 'm-1'],
    ['a number', '17', '17'],
    ['an empty text', '""', undefined],
    ['256 bytes', JSON.stringify('é'.repeat(128)), 'é'.repeat(128)],
    ['257 bytes', JSON.stringify(`${'é'.repeat(128)}x`), undefined],
    ['U+0000', '"a\\u0000"', undefined],
    ['half a surrogate pair', '"\\ud800"', undefined],
    ['a number too large', '1e400', undefined],
    ['an object', '{}', undefined],
  ])('messageKey from %s', (_, id, expected) => {
    expect(eventOf(ingress(`{"id":${id},"values":{"a":1}}`)).messageKey).toBe(expected)
  })

  it('has no messageKey from an array of several, whose ids name its parts', () => {
    expect(eventOf(ingress('[{"id":"a","values":{"n":1}},{"id":"b","values":{"n":2}}]'))).not.toHaveProperty(
      'messageKey',
    )
    expect(eventOf(ingress('[{"id":"a","values":{"n":1}}]')).messageKey).toBe('a')
  })

  it('is one for each device, in the order of their first readings', () => {
    const events = eventsOf(
      outcomeOf(
        ingress('[{"device":"b","n":1},{"device":"a","n":2},{"device":"b","n":3},{"device":"gw-1","n":4}]', {
          principal: gateway,
        }),
      ),
    )
    expect(
      events.map(({ device, gateway: via, readings }) => [device, via, readings.map(({ value }) => value)]),
    ).toEqual([
      ['b', 'gw-1', [1, 3]],
      ['a', 'gw-1', [2]],
      ['gw-1', undefined, [4]],
    ])
    expect(new Set(events.map(({ id }) => id)).size).toBe(3)
  })

  it('is none when there are no readings', () => {
    for (const body of ['{}', '[]', '{"a":null}', 'null', '{"values":{}}', '{"a":[[],{}]}'])
      expect(outcomeOf(ingress(body))).toEqual({ kind: 'ignored' })
  })
})

describe('times', () => {
  const readingsOf = (body: string) => eventOf(ingress(body)).readings

  it('are the arrival when the device gave none, one step an element', () => {
    const [first, second] = normalizer().normalize([
      ingress('{"a":1,"b":2}'),
      ingress('[{"a":1,"b":2},{"a":3},{"a":4,"ts":1768478400000},{"a":5}]'),
    ])
    const times = [first, second].flatMap((outcome) =>
      eventsOf(outcome as Outcome).flatMap(({ readings }) =>
        readings.map(({ eventTimeUs, clock }) => [eventTimeUs - arrivalUs, clock]),
      ),
    )
    expect(times).toEqual([
      [0, 1],
      [0, 1],
      [1, 1],
      [1, 1],
      [2, 1],
      [0, undefined],
      [3, 1],
    ])
  })

  it('go on from the last one when the wall clock went back', () => {
    const clock = new ArrivalClock()
    expect([clock.next(1000), clock.next(1000), clock.next(500), clock.next(2000)]).toEqual([1000, 1001, 1002, 2000])
  })

  it.each([
    ['1970', 1],
    ['2106', 4_294_967_295],
  ])('of a clock that was not set (%s) are the arrival', (_, ts) => {
    expect(readingsOf(`{"ts":${ts},"values":{"a":1}}`)).toEqual([
      { metric: 'a', value: 1, eventTimeUs: arrivalUs, clock: 1 },
    ])
  })

  it('an hour ahead are not believed, but kept', () => {
    const ahead = arrivalMs + 3_600_000
    expect(readingsOf(`{"ts":${ahead},"values":{"a":1,"b":2}}`)).toEqual([
      { metric: 'a', value: 1, eventTimeUs: arrivalUs, deviceTimeUs: ahead * 1000, clock: 2 },
      { metric: 'b', value: 2, eventTimeUs: arrivalUs, deviceTimeUs: ahead * 1000, clock: 2 },
    ])
    const edge = arrivalMs + 600_000
    expect(readingsOf(`{"ts":${edge},"values":{"a":1}}`)).toEqual([{ metric: 'a', value: 1, eventTimeUs: edge * 1000 }])
    expect(readingsOf(`{"ts":${edge + 1},"values":{"a":1}}`)).toMatchObject([{ clock: 2 }])
  })

  it('older than retention park the whole message', () => {
    const edge = arrivalMs - 90 * dayMs
    expect(readingsOf(`{"ts":${edge},"values":{"a":1}}`)).toHaveLength(1)
    expect(codeOf(ingress(`[{"n":1},{"ts":${edge - 1},"n":2}]`))).toBe('too_old')
    const [kept] = createNormalizer({
      retentionMs: undefined,
      authenticator: { admitDevice: () => 'admitted' },
    }).normalize([ingress('{"ts":1000000000,"values":{"a":1}}')])
    expect(kept?.kind).toBe('events')
  })
})

describe('a device credential', () => {
  it.each(['devices/me/telemetry', 'devices/pump-1/telemetry', 'v1/devices/me/telemetry'])(
    'speaks for itself on %s',
    (topic) => {
      expect(eventOf(ingress('{"a":1}', { topic })).device).toBe('pump-1')
    },
  )

  it('may have an id with slashes, on devices/me', () => {
    expect(eventOf(ingress('{"a":1}', { principal: deviceOf('plant/line/7') })).device).toBe('plant/line/7')
    expect(eventOf(ingress('5', { principal: deviceOf('plant/line/7'), topic: 'devices/me/x/y' }))).toMatchObject({
      device: 'plant/line/7',
      readings: [{ metric: 'x.y', value: 5 }],
    })
  })

  it('is named by a path whose segments are decoded after splitting', () => {
    const topic = '/v1/devices/plant%2F7/env/t?x=/devices/other'
    const principal = deviceOf('plant/7')
    expect(eventOf(ingress('5', http({ principal, topic, contentType: 'text/plain' })))).toMatchObject({
      device: 'plant/7',
      readings: [{ metric: 'env.t', value: 5 }],
    })
    expect(eventOf(ingress('5', http({ principal, topic, device: 'plant/7' }))).readings).toMatchObject([
      { metric: 'env.t' },
    ])
  })

  it('may say its own id in the payload', () => {
    expect(eventOf(ingress('{"device_id":"pump-1","a":1}')).device).toBe('pump-1')
    expect(eventOf(ingress('{"device":"pump-1","a":1}', http({ device: 'pump-1' }))).readings).toHaveLength(1)
    expect(eventOf(ingress('{"a":1}', http({ device: 'me', topic: '/v1/devices/me/telemetry' }))).device).toBe('pump-1')
  })

  it.each([
    ['payload', ingress('{"device_id":"pump-2","a":1}')],
    ['topic', ingress('{"a":1}', { topic: 'devices/pump-2/telemetry' })],
    ['topic of a bare value', ingress('5', { topic: 'home/kitchen/t' })],
    ['path', ingress('{"a":1}', http({ device: 'pump-2' }))],
    ['path of garbage', ingress('{broken', http({ device: 'pump-2' }))],
    ['path of nothing', ingress('{}', http({ device: 'pump-2' }))],
    ['one of many', ingress('[{"a":1},{"device":"pump-2","a":2}]')],
    ['ThingsBoard gateway', ingress('{"pump-2":[{"a":1}]}', { topic: 'v1/gateway/telemetry' })],
    ['seed form', ingress('{"device_id":"pump-2","reading_type":"t","reading_value":1}', http())],
  ])('cannot claim another device by %s', (_, message) => {
    expect(outcomeOf(message)).toMatchObject({ kind: 'refused', code: 'not_allowed' })
  })

  it('never asks for admission', () => {
    const outcome = outcomeOf(ingress('{"a":1}'), () => 'disabled')
    expect(outcome.kind).toBe('events')
  })
})

describe('a fleet credential', () => {
  const plant = fleetOf('gw-1', 'plant-*')
  const item = (body: string, more: Partial<Ingress> = {}) =>
    ingress(body, { principal: plant, topic: 'gateways/me/telemetry', device: 'plant-7', fleetItem: true, ...more })

  it('speaks for the devices of its pattern', () => {
    expect(eventOf(ingress('21.5', { principal: plant, topic: 'plant-7/temperature' }))).toMatchObject({
      device: 'plant-7',
      gateway: 'gw-1',
      tenant: 'acme',
      codec: 'generic',
    })
    expect(outcomeOf(ingress('21.5', { principal: plant, topic: 'home/temperature' }))).toMatchObject({
      kind: 'refused',
      code: 'not_allowed',
    })
  })

  it('sends an array for each device of a fleet body', () => {
    expect(eventOf(item('[{"id":"k","values":{"n":1}}]'))).toMatchObject({
      device: 'plant-7',
      gateway: 'gw-1',
      messageKey: 'k',
      codec: 'own',
    })
    expect(eventOf(item('[{"values":{"n":1}}]', { device: 'me' }))).toMatchObject({ device: 'gw-1' })
  })

  it('means itself by `me` in an unsplit fleet body', () => {
    const message = ingress('{"me":[{"n":1}]}', { principal: plant, topic: 'gateways/me/telemetry' })
    expect(eventOf(message).device).toBe('gw-1')
  })

  it('has children parked that it may not speak for', () => {
    const deadLetter = deadLetterOf(outcomeOf(item('[{"n":1}]', { device: 'home-1', acknowledgesParked: true })))
    expect(deadLetter).toMatchObject({ code: 'not_allowed', device: 'home-1', acknowledged: true, tenant: 'acme' })
    expect(deadLetterOf(outcomeOf(item('[{"device":"plant-8","n":1}]')))).toMatchObject({
      code: 'not_allowed',
      device: 'plant-7',
    })
    expect(deadLetterOf(outcomeOf(item('[{"n":1}]'), () => 'disabled')).code).toBe('not_allowed')
  })

  it('creates devices within its cap, and only with messages that are stored', () => {
    const asked: string[] = []
    const admit: Authenticator['admitDevice'] = (_, device) => {
      asked.push(device)
      return device === 'plant-9' ? 'too_many_devices' : device === 'plant-8' ? 'disabled' : 'admitted'
    }
    const send = (body: string) => outcomeOf(ingress(body, http({ principal: plant })), admit)
    expect(send('{"device":"plant-7","n":1}').kind).toBe('events')
    expect(send('{"device":"plant-8","n":1}')).toMatchObject({ kind: 'refused', code: 'not_allowed' })
    expect(deadLetterOf(send('{"device":"plant-9","n":1}')).code).toBe('too_many_devices')
    expect(send('{"device":"gw-1","n":1}').kind).toBe('events')
    expect(asked).toEqual(['plant-7', 'plant-8', 'plant-9'])
    send('{"device":"plant-7","n":1e400}')
    send('[{"device":"plant-7","n":1},{"device":"home-1","n":1}]')
    expect(asked, 'bad messages do not ask').toHaveLength(3)
  })

  it('needs a name for each device on gateways/me/telemetry', () => {
    const send = (body: string) => ingress(body, { principal: gateway, topic: 'gateways/me/telemetry' })
    expect(codeOf(send('{"values":{"n":1}}'))).toBe('no_device')
    expect(eventOf(send('{"device":"a","values":{"n":1}}')).device).toBe('a')
    expect(eventsOf(outcomeOf(send('{"a":[{"n":1}],"b":[{"n":2},{"n":3}]}'))).map(({ device }) => device)).toEqual([
      'a',
      'b',
    ])
  })
})

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

  it.each(['application/xml', 'image/png', 'application/octet-stream', 'application/cbor', 'text/html; charset=utf-8'])(
    'content type %s is unsupported over HTTP',
    (contentType) => {
      for (const body of ['{"a":1}', '<a/>', '', '\xff'])
        expect(['unsupported', 'empty']).toContain(codeOf(ingress(Buffer.from(body, 'latin1'), http({ contentType }))))
      expect(eventOf(ingress('{"a":1}', { contentType })).readings, 'over MQTT it says nothing').toHaveLength(1)
    },
  )

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
