import { describe, expect, it } from 'vitest'
import { ignored } from '../verdict.ts'
import { startSource, tokens } from './http-source.fixture.ts'

const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`
const body = '{"values":{"t":1}}'

describe('credentials', () => {
  it.each([
    [`Bearer ${tokens.pump}`, 202],
    [`Token ${tokens.pump}`, 202],
    [basic(`pump-1:${tokens.pump}`), 202],
    [basic(`:${tokens.pump}`), 202],
    [basic(`pump-2:${tokens.pump}`), 401],
    ['Bearer fb_wrong', 401],
    [`Bearer ${tokens.disabled}`, 401],
    ['', 401],
    ['Bearer __proto__', 401],
  ])('%s: %d', async (authorization, status) => {
    const { post, pipeline, refused } = await startSource()
    const response = await post('/v1/telemetry', body, { authorization })
    expect(response.status).toBe(status)
    expect(pipeline.envelopes).toHaveLength(status === 202 ? 1 : 0)
    if (status === 202) return expect(refused).toEqual([])
    const code = authorization.includes(tokens.disabled) ? 'credential_disabled' : 'not_authenticated'
    expect(await response.json()).toMatchObject({ status: 401, code })
    expect(response.headers.get('www-authenticate')).toMatch(/^Bearer realm=.*Basic realm=/)
    expect(refused).toEqual([code])
  })

  it('none at all: 401', async () => {
    const { url, authenticator } = await startSource()
    expect((await fetch(`${url}/v1/telemetry`, { method: 'POST', body })).status).toBe(401)
    expect(authenticator.asked).toEqual([[undefined, undefined]])
  })

  it('that could not be loaded yet: 503, come back', async () => {
    const { post, authenticator, refused } = await startSource()
    authenticator.available = false
    const response = await post('/v1/telemetry', body)
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '2'])
    expect(response.headers.has('www-authenticate')).toBe(false)
    expect(await response.json()).toMatchObject({ code: 'credentials_unavailable' })
    expect(refused).toEqual(['credentials_unavailable'])
  })

  it('are looked at before the body: an unknown client is refused though it never sends one', async () => {
    const { raw, pipeline } = await startSource()
    const client = await raw()
    client.write('POST /v1/telemetry HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer no\r\nContent-Length: 500000\r\n\r\n')
    expect((await client.until(/^HTTP\/1\.1 (\d+) /))[1]).toBe('401')
    expect(pipeline.envelopes).toEqual([])
  })
})

describe('places', () => {
  it('/v1/telemetry: the device is the credential, and the path keeps its query', async () => {
    const { post, pipeline } = await startSource()
    expect((await post('/v1/telemetry?a=b%20c', body)).status).toBe(202)
    expect(pipeline.last).toMatchObject({
      principal: { device: 'pump-1', tenant: 'default' },
      source: 'http',
      topic: '/v1/telemetry?a=b%20c',
      contentType: 'application/json',
      payload: Buffer.from(body),
      device: undefined,
      fleetItem: false,
      arrayElement: false,
      acknowledgesParked: false,
    })
    expect(Math.abs(pipeline.last.ingestTimeUs / 1000 - Date.now())).toBeLessThan(5000)
    expect(pipeline.envelopes[0]).toMatchObject({ lane: undefined, holdUntilMs: 0 })
  })

  it.each([
    ['pump-1', 'pump-1'],
    ['me', 'me'],
    ['a%2Fb%2fc', 'a/b/c'],
    ['%E2%82%AC%25%3F', '€%?'],
    ['a%252Fb', 'a%2Fb'],
    ['__proto__', '__proto__'],
    ['constructor', 'constructor'],
    ['%00', '\0'],
    ['a%2Bb%23', 'a+b#'],
    [`${'x'.repeat(300)}`, 'x'.repeat(300)],
  ])('/v1/devices/%s/telemetry names the device', async (segment, device) => {
    const { post, pipeline } = await startSource()
    expect((await post(`/v1/devices/${segment}/telemetry`, body)).status).toBe(202)
    expect(pipeline.last).toMatchObject({ device, topic: `/v1/devices/${segment}/telemetry` })
  })

  it.each([
    '/v1/devices/%zz/telemetry',
    '/v1/devices/%/telemetry',
    '/v1/devices/%E2%82/telemetry',
    '/api/v1/%c3/telemetry',
  ])('%s: 400', async (path) => {
    const { raw, logged } = await startSource()
    const client = await raw()
    client.write(`POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n`)
    await client.until(/^HTTP\/1\.1 400 [\s\S]*application\/problem\+json[\s\S]*"code":"protocol_error"/)
    expect(logged).toEqual([])
  })

  it("ThingsBoard's path: its token is never written down, one request is one message, and success is an empty 200", async () => {
    const { url, pipeline, authenticator, logged } = await startSource()
    const send = (path: string, content: string) => fetch(url + path, { method: 'POST', body: content })
    const answer = await send(`/api/v1/${tokens.pump}/telemetry?x=1`, '[{"a":1},{"a":2}]')
    expect([answer.status, await answer.text(), answer.headers.get('content-length')]).toEqual([200, '', '0'])
    expect(pipeline.payloads).toEqual(['[{"a":1},{"a":2}]'])
    expect(pipeline.last).toMatchObject({ topic: '/api/v1/TOKEN/telemetry?x=1', device: undefined })
    expect(authenticator.asked).toEqual([[tokens.pump, undefined]])
    await send(`/%61pi/v1/${tokens.pump.replace('_', '%5F')}/%74elemetry`, '{"a":3}')
    expect(pipeline.last.topic).toBe('/api/v1/TOKEN/telemetry')
    pipeline.decide = () => ignored
    expect((await send(`/api/v1/${tokens.pump}/telemetry`, '{}')).status).toBe(200)
    const wrong = await send('/api/v1/fb_wrong/telemetry', '{}')
    expect(wrong.status).toBe(401)
    expect(await wrong.text()).not.toContain('fb_wrong')
    expect(logged.join(), 'nothing of a request is logged').toBe('')
  })

  it.each(['/telemetry/ingest', '/api/v1/telemetry/ingest'])(
    "%s: the earlier engine's clients, with a fleet token",
    async (path) => {
      const { post, pipeline } = await startSource()
      const authorization = `Bearer ${tokens.fleet}`
      const reading = '{"device_id":"d-1","reading_value":21.5,"reading_type":"temperature"}'
      expect((await post(path, reading, { authorization })).status).toBe(202)
      expect(pipeline.last).toMatchObject({ topic: path, principal: { fleet: true }, device: undefined })
      expect((await post(path, `[${reading},${reading}]`, { authorization })).status).toBe(202)
      expect(pipeline.payloads).toEqual([reading, reading, reading])
    },
  )

  it.each([
    '/',
    '/v1',
    '/v1/telemetry/',
    '/v2/telemetry',
    '/v1/devices/a/b/telemetry',
    '/api/v1/telemetry',
    '/__proto__',
  ])('%s is nowhere', async (path) => {
    const { post, refused, pipeline } = await startSource()
    const response = await post(path, body)
    expect([response.status, response.headers.get('content-type')]).toEqual([404, 'application/problem+json'])
    expect(await response.json()).toMatchObject({ code: 'not_found', status: 404 })
    expect([refused, pipeline.envelopes]).toEqual([[], []])
  })

  it('a whole URL as target is its path', async () => {
    const { raw, pipeline } = await startSource()
    const client = await raw()
    const head = (target: string) =>
      `POST ${target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${tokens.pump}\r\nContent-Length: 1\r\n\r\n5`
    client.write(head('http://x:8080/v1/telemetry?q') + head('http://x') + head('*'))
    await client.until(/HTTP\/1\.1 202 [\s\S]*HTTP\/1\.1 404 [\s\S]*HTTP\/1\.1 404 /)
    expect(pipeline.last.topic).toBe('/v1/telemetry?q')
  })
})

describe('methods', () => {
  it.each(['GET', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'PROPFIND', 'QUERY'])('%s: 405 with Allow', async (method) => {
    const { url } = await startSource()
    for (const path of ['/v1/telemetry', '/v1/devices/a/telemetry', '/api/v1/fb_x/telemetry', '/telemetry/ingest']) {
      const response = await fetch(url + path, { method, ...(method === 'PUT' && { body: '{oops' }) })
      expect([response.status, response.headers.get('allow')]).toEqual([405, 'OPTIONS, POST'])
      const text = await response.text()
      if (method === 'HEAD') expect(text).toBe('')
      else expect(JSON.parse(text)).toMatchObject({ status: 405, code: 'protocol_error' })
    }
  })

  it('OPTIONS: 204 with Allow', async () => {
    const { url } = await startSource()
    const response = await fetch(`${url}/v1/telemetry`, { method: 'OPTIONS' })
    expect([response.status, response.headers.get('allow')]).toEqual([204, 'OPTIONS, POST'])
    expect((await fetch(`${url}/nowhere`, { method: 'OPTIONS' })).status).toBe(404)
  })

  it('an unknown one: 400', async () => {
    const { raw } = await startSource()
    const client = await raw()
    client.write('BREW /v1/telemetry HTTP/1.1\r\nHost: x\r\n\r\n')
    await client.until(/^HTTP\/1\.1 400 [\s\S]*"code":"protocol_error"/)
    await client.closed
  })
})
