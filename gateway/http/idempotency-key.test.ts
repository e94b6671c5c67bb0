import { describe, expect, it } from 'vitest'
import { startSource, tokens } from './http-source.fixture.ts'
import { idempotencyKey } from './idempotency-key.ts'

const reading = '{"values":{"t":1}}'

describe('Idempotency-Key', () => {
  it('is a text with or without quotes', () => {
    expect(idempotencyKey({})).toBeUndefined()
    expect(idempotencyKey({ 'idempotency-key': '"8e03978e-40d5 x"' })).toBe('8e03978e-40d5 x')
    expect(idempotencyKey({ 'idempotency-key': ' 8e03978e,40d5 ' })).toBe('8e03978e,40d5')
    expect(idempotencyKey({ 'idempotency-key': 'malformed' })).toBe('malformed')
  })

  it.each(['', '""', '"a', 'a b', 'ä', '"a"b"', 'x'.repeat(201), `"${'x'.repeat(201)}"`])('is not %s', (value) => {
    expect(idempotencyKey({ 'idempotency-key': value })).toBeNull()
  })

  it('names the one message, and each of several by its place', async () => {
    const { post, pipeline } = await startSource()
    const key = { 'idempotency-key': '"r-1"' }
    await post('/v1/telemetry', reading, key)
    await post('/v1/telemetry', `[${reading}]`, key)
    await post('/v1/telemetry', `[${reading},${reading}]`, key)
    await post('/v1/telemetry', '{"a":[{"n":1}],"b":[]}', { ...key, authorization: `Bearer ${tokens.fleet}` })
    await post('/api/v2/write', 'm n=1\nm n=2', key)
    await post(`/api/v1/${tokens.pump}/telemetry`, '{"n":1}', key)
    await post('/v1/telemetry', reading)
    expect(pipeline.envelopes.map(({ ingress }) => ingress.messageKey)).toEqual([
      'r-1',
      'r-1',
      'r-1#0',
      'r-1#1',
      'r-1#0',
      'r-1#1',
      'r-1#0',
      'r-1#1',
      'r-1',
      undefined,
    ])
  })

  it('that is none is told before the body is read', async () => {
    const { post, pipeline } = await startSource()
    const response = await post('/v1/telemetry', reading, { 'idempotency-key': '"open' })
    expect([response.status, await response.json()]).toMatchObject([400, { code: 'protocol_error' }])
    expect(pipeline.envelopes).toHaveLength(0)
  })
})
