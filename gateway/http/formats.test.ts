import { describe, expect, it } from 'vitest'
import { ignored, stored } from '../verdict.ts'
import { parkedAs, refusedAs, startSource, tokens } from './http-source.fixture.ts'

const fleet = { authorization: `Bearer ${tokens.fleet}` }
const event = { specversion: '1.0', id: '1', source: '/s', type: 't', data: { a: 1 } }

describe('headers that say something of the message', () => {
  it('go on with it, and no others', async () => {
    const { post, pipeline } = await startSource()
    await post('/v1/telemetry', '{"a":1}', {
      'ce-specversion': '1.0',
      'CE-Subject': 'Euro%20',
      'ce-extension': 'x',
      'x-limit-u': 'jane',
      cookie: 'secret',
    })
    expect([...(pipeline.last.headers ?? [])].sort()).toEqual([
      ['ce-specversion', '1.0'],
      ['ce-subject', 'Euro%20'],
      ['x-limit-u', 'jane'],
    ])
    await post('/v1/telemetry', '{"a":1}')
    expect(pipeline.last.headers).toBeUndefined()
  })

  it('are bounded, and read as the UTF-8 that they are', async () => {
    const { post, pipeline } = await startSource()
    await post('/pub', '{}', {
      'x-limit-u': Buffer.from('Jürgen').toString('latin1'),
      'x-limit-d': 'x'.repeat(5000),
      'ce-id': '\xff',
    })
    expect(pipeline.last.headers?.get('x-limit-u')).toBe('Jürgen')
    expect(pipeline.last.headers?.get('x-limit-d')).toHaveLength(1024)
    expect(pipeline.last.headers?.get('ce-id')).toBe('\xff')
  })
})

describe('CloudEvents', () => {
  it('each of a batch is a message', async () => {
    const { post, pipeline } = await startSource()
    const body = JSON.stringify([event, 5, event])
    const response = await post('/v1/telemetry', body, { 'content-type': 'application/cloudevents-batch+json' })
    expect(await response.json()).toMatchObject({ accepted: 3 })
    expect(pipeline.payloads).toEqual([JSON.stringify(event), '5', JSON.stringify(event)])
    pipeline.decide = () => ignored
    expect((await post('/v1/telemetry', '[]', { 'content-type': 'application/cloudevents-batch+json' })).status).toBe(
      202,
    )
  })

  it('one alone, and the data of binary mode, are never split', async () => {
    const { post, pipeline } = await startSource()
    await post('/v1/telemetry', JSON.stringify(event), { 'content-type': 'application/cloudevents+json' })
    await post('/v1/telemetry', '[{"a":1},{"a":2}]', { 'ce-specversion': '1.0' })
    await post('/v1/telemetry', '{"a":[{"b":1}]}', { ...fleet, 'ce-specversion': '1.0' })
    expect(pipeline.payloads).toEqual([JSON.stringify(event), '[{"a":1},{"a":2}]', '{"a":[{"b":1}]}'])
  })
})

describe('/pub of OwnTracks', () => {
  it('answers with an empty array, also to what is parked', async () => {
    const { post, pipeline } = await startSource()
    for (const verdict of [stored, ignored, parkedAs('unsupported')]) {
      pipeline.decide = () => verdict
      const response = await post('/pub?x=1', '[{"_type":"location"}]', fleet)
      expect([response.status, await response.text()]).toEqual([200, '[]'])
    }
    expect(pipeline.envelopes).toHaveLength(3)
    expect(pipeline.last).toMatchObject({ acknowledgesParked: true, topic: '/pub?x=1' })
  })

  it('is told of refusals', async () => {
    const { post, pipeline } = await startSource()
    pipeline.decide = () => refusedAs('not_allowed')
    expect((await post('/pub', '{}')).status).toBe(403)
    pipeline.decide = () => refusedAs('rate_limited', { waitMs: 10 })
    expect((await post('/pub', '{}')).status).toBe(429)
    expect((await post('/pub', '{}', { authorization: 'Bearer x' })).status).toBe(401)
  })
})

it('bodies of LoRaWAN servers and binary ones come whole', async () => {
  const { post, pipeline } = await startSource()
  await post('/v1/telemetry?event=up', '{"deviceInfo":{"devEui":"a"},"object":{}}', fleet)
  expect(pipeline.last.topic).toBe('/v1/telemetry?event=up')
  await post('/v1/telemetry', new Uint8Array([0x82, 1, 2]), { 'content-type': 'application/cbor' })
  expect(pipeline.envelopes).toHaveLength(2)
  expect([...pipeline.last.payload]).toEqual([0x82, 1, 2])
})
