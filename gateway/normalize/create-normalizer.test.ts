import { describe, expect, it } from 'vitest'
import type { Authenticator } from '../auth/authenticator.ts'
import type { Ingress } from '../ingress.ts'
import { ArrivalClock } from './arrival-clock.ts'
import { createNormalizer } from './create-normalizer.ts'
import {
  arrivalMs,
  arrivalUs,
  codeOf,
  dayMs,
  deadLetterOf,
  deviceOf,
  eventOf,
  eventsOf,
  fleetOf,
  gateway,
  http,
  ingress,
  normalizer,
  outcomeOf,
} from './normalized.fixture.ts'
import type { Outcome } from './normalizer.ts'

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

  it('takes nothing from an operator, not even for its own device or to park it', () => {
    const principal = { ...deviceOf('pump-1'), operator: true, allows: () => false }
    for (const body of ['{"n":1}', '{"device":"pump-1","n":1}', '{'])
      expect(outcomeOf(ingress(body, http({ principal })))).toMatchObject({ kind: 'refused', code: 'not_allowed' })
    expect(outcomeOf(ingress('x', http({ principal, park: 'unsupported' }))).kind).toBe('refused')
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
