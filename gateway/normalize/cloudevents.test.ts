import { describe, expect, it } from 'vitest'
import { resultOf } from './decode-case.ts'
import { eventOf, eventsOf, gateway, http, ingress, outcomeOf } from './normalized.fixture.ts'

const event = { specversion: '1.0', id: '1', source: '/s', type: 't', data: { a: 1 } }

function decoded(value: unknown, contentType = 'application/cloudevents+json', headers?: Record<string, string>) {
  const { codec, result } = resultOf(Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)), {
    transport: 'http',
    topic: '/v1/telemetry',
    contentType,
    headers: headers && new Map(Object.entries(headers)),
    clientId: 'me-1',
  })
  if ('error' in result) return result.error
  return [codec, ...result.readings.map(({ device, metric, value, ts }) => `${device} ${metric} ${value} ${ts}`)]
}

describe('CloudEvents', () => {
  it.each([
    [event, ['cloudevents', '/s a 1 null']],
    [{ ...event, subject: 'd', data: [{ a: 1 }, { device: 'e', a: 2 }] }, ['cloudevents', 'd a 1 null', 'e a 2 null']],
    [{ ...event, subject: '', data: 'on' }, ['cloudevents', '/s value on null']],
    [{ ...event, data: null }, ['cloudevents']],
    [{ ...event, data: { values: { a: 1 } } }, ['cloudevents', '/s a 1 null']],
    [{ ...event, datacontenttype: 'application/vnd.x+json; charset=utf-8' }, ['cloudevents', '/s a 1 null']],
    [{ ...event, data: undefined, data_base64: '', datacontenttype: 'application/json' }, ['cloudevents']],
    [
      [event, { ...event, data: [] }, { ...event, subject: 'd' }],
      ['cloudevents', '/s a 1 null', 'd a 1 null'],
    ],
    [[], ['cloudevents']],
    [
      { ...event, time: '2026-01-15T11:00:00Z', data: { a: 1, ts: '' } },
      ['cloudevents', '/s a 1 2026-01-15T11:00:00.000Z'],
    ],
    [{ ...event, specversion: '0.3' }, 'unsupported'],
    [{ ...event, specversion: 1 }, 'malformed'],
    [{ ...event, subject: 5 }, 'malformed'],
    [{ ...event, type: '' }, 'malformed'],
    [{ ...event, data_base64: 'e30=' }, 'malformed'],
    [{ ...event, data: undefined, data_base64: 'e30=' }, 'unsupported'],
    [{ ...event, data: undefined, data_base64: 'e30', datacontenttype: 'application/json' }, 'malformed'],
    [{ ...event, datacontenttype: 'text/plain', data: 'x' }, 'unsupported'],
    [[event, 5], 'malformed'],
    ['x', 'malformed'],
  ])('%j', (value, expected) => {
    expect(decoded(value)).toEqual(expected)
  })

  it('is known by its shape as well', () => {
    expect(decoded(event, 'application/json')).toEqual(['cloudevents', '/s a 1 null'])
    expect(
      decoded({ ...event, specversion: undefined, reading_type: 't', reading_value: 1 }, 'application/json'),
    ).toEqual(['seed', 'me-1 t 1 null'])
  })

  it('SenML without a base name is of its subject, and takes its time', () => {
    const pack = { ...event, datacontenttype: 'application/senml+json', data: [{ n: 't', v: 1 }], subject: 'd' }
    expect(decoded({ ...pack, time: '2026-01-15T11:00:00Z' })).toEqual([
      'cloudevents',
      'd t 1 2026-01-15T11:00:00.000Z',
    ])
  })

  describe('in binary mode', () => {
    const headers = { 'ce-specversion': '1.0', 'ce-id': '1', 'ce-source': '/s', 'ce-type': 't' }
    it.each([
      ['{"a":1}', 'application/json', {}, ['cloudevents', '/s a 1 null']],
      ['[{"a":1}]', 'application/json', { 'ce-subject': '100%' }, ['cloudevents', '100% a 1 null']],
      ['[{"n":"t","v":1}]', 'application/senml+json', {}, ['cloudevents', '/s t 1 null']],
      ['', 'application/json', {}, ['cloudevents']],
      ['{"a":1}', 'application/json', { 'ce-id': '' }, 'malformed'],
      ['{"a":1}', 'application/json', { 'ce-specversion': '2' }, 'unsupported'],
      ['{"a":1}', 'application/json', { 'ce-time': 'noon' }, 'bad_time'],
      ['<a/>', 'application/xml', {}, 'unsupported'],
      ['{', 'application/json', {}, 'malformed'],
    ])('%s as %s with %j', (body, contentType, more, expected) => {
      expect(decoded(body, contentType, { ...headers, ...more })).toEqual(expected)
    })
  })

  it('its source and id name the message', () => {
    const sent = (more: object) =>
      eventOf(ingress(JSON.stringify({ ...event, ...more }), http({ principal: gateway }))).messageKey
    expect(sent({})).toBe('/s 1')
    expect(sent({ data: { id: 'x', values: { a: 1 } } }), 'not what is inside').toBe('/s 1')
    expect(sent({ id: 'x'.repeat(300) })).toBeUndefined()
    const batch = outcomeOf(ingress(JSON.stringify([event, { ...event, id: '2' }]), http({ principal: gateway })))
    expect(eventsOf(batch)[0]?.messageKey).toBeUndefined()
  })
})
