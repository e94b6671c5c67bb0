import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it, vi } from 'vitest'
import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import { stored } from '../verdict.ts'
import { requestText, startSource, TestAuthenticator, tokens } from './http-source.fixture.ts'
import { startHttpSource } from './http-source.ts'

const reading = '{"values":{"t":1}}'
const authorization = `Authorization: Bearer ${tokens.pump}`

it('one address has only so many connections, and others as many of their own', async () => {
  const { raw, metrics } = await startSource({ maxConnectionsPerAddress: 2 })
  const [first, second] = [await raw(), await raw()]
  for (const client of [first, second]) client.write(requestText('/v1/telemetry', reading))
  for (const client of [first, second]) await client.until(/HTTP\/1\.1 202 /)
  const third = await raw()
  await third.closed
  expect(third.text).toBe('')
  const refused = await metrics.registry.getSingleMetricAsString('fleetbridge_http_refused_connections_total')
  expect(refused).toContain('{reason="too_many_from_address"} 1')
  first.socket.destroy()
  await vi.waitFor(async () => {
    const next = await raw()
    next.write(requestText('/v1/telemetry', reading))
    await Promise.race([next.closed, next.until(/HTTP\/1\.1 202 /)])
    expect(next.text).toMatch(/^HTTP\/1\.1 202 /) // the server may not have seen the first one go yet
  })
})

describe('requests on one connection', () => {
  it('sent ahead are answered in order', async () => {
    const { raw, pipeline } = await startSource()
    pipeline.decide = () => undefined
    const client = await raw()
    client.write(requestText('/v1/telemetry', '1') + requestText('/nowhere', '2') + requestText('/v1/telemetry', '3'))
    await pipeline.arrived(2)
    pipeline.envelopes[1]?.settle(stored)
    await delay(20)
    expect(client.text).toBe('')
    pipeline.envelopes[0]?.settle(stored)
    await client.until(/HTTP\/1\.1 202 [\s\S]*HTTP\/1\.1 404 [\s\S]*HTTP\/1\.1 202 [\s\S]*"accepted":1,.*\}$/)
  })

  it('garbage behind a request does not take its answer', async () => {
    const { raw, pipeline } = await startSource()
    pipeline.decide = () => undefined
    const client = await raw()
    client.write(`${requestText('/v1/telemetry', '1')}\0garbage\r\n\r\n`)
    await pipeline.arrived(1)
    await delay(50)
    expect(client.text).toBe('')
    pipeline.envelopes[0]?.settle(stored)
    await client.closed
    expect(client.text).toMatch(/^HTTP\/1\.1 202 [\s\S]*connection: close/i)
    expect(client.text.match(/HTTP\/1\.1/g)).toHaveLength(1)
  })

  it('a refusal with a short body leaves the connection open', async () => {
    const { raw } = await startSource()
    const client = await raw()
    const wrong = requestText('/v1/telemetry', 'x'.repeat(5000)).replace(tokens.pump, 'fb_wrong')
    client.write(wrong + wrong + requestText('/v1/telemetry', reading))
    await client.until(/HTTP\/1\.1 401 [\s\S]*HTTP\/1\.1 401 [\s\S]*HTTP\/1\.1 202 /)
  })

  it('HTTP/1.0 is answered and closed', async () => {
    const { raw } = await startSource()
    const client = await raw()
    client.write(`POST /v1/telemetry HTTP/1.0\r\n${authorization}\r\nContent-Length: 1\r\n\r\n1`)
    await client.closed
    expect(client.text).toMatch(/^HTTP\/1\.1 202 /)
  })
})

describe('Expect', () => {
  const head = (token: string, length: number, expect = '100-continue') =>
    `POST /v1/telemetry HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nExpect: ${expect}\r\nContent-Length: ${length}\r\n\r\n`

  it('the client is told to go on when its credentials are good', async () => {
    const { raw, pipeline } = await startSource()
    const client = await raw()
    client.write(head(tokens.pump, 1))
    await client.until(/^HTTP\/1\.1 100 Continue\r\n\r\n$/)
    client.write('7')
    await client.until(/HTTP\/1\.1 202 /)
    expect(pipeline.payloads).toEqual(['7'])
  })

  it.each([
    ['fb_wrong', 10, 401],
    [tokens.pump, 2_000_000, 413],
  ])('%s with %d bytes: %d instead', async (token, length, status) => {
    const { raw } = await startSource()
    const client = await raw()
    client.write(head(token, length))
    await client.until(new RegExp(`^HTTP/1\\.1 ${status} `))
    expect(client.text).not.toContain('100 Continue')
  })

  it('anything else is 417', async () => {
    const { raw } = await startSource()
    const client = await raw()
    client.write(head(tokens.pump, 1, 'miracles'))
    await client.until(/^HTTP\/1\.1 417 [\s\S]*"code":"protocol_error"/)
    await client.closed
  })
})

describe('hostile requests', () => {
  it.each([
    ['both lengths', `${authorization}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n`, 400],
    ['two lengths', `${authorization}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n`, 400],
    ['a negative length', `${authorization}\r\nContent-Length: -5\r\n\r\n`, 400],
    ['a chunk that is none', `${authorization}\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n`, 400],
    ['a control character', `${authorization}\r\nX: a\0b\r\n\r\n`, 400],
    ['a folded field', `${authorization}\r\nX: a\r\n b: c\r\n no colon\r\n\r\n`, 400],
    ['a head of 20 KB', `${authorization}\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`, 431],
    ['50,000 fields', 'X: y\r\n'.repeat(50_000), 431],
  ])('%s', async (_name, head, status) => {
    const { raw, pipeline, logged, post } = await startSource()
    const client = await raw()
    client.write(`POST /v1/telemetry HTTP/1.1\r\nHost: x\r\n${head}`)
    await client.until(
      new RegExp(`^HTTP/1\\.1 ${status} [\\s\\S]*application/problem\\+json[\\s\\S]*"code":"protocol_error"`),
    )
    await client.closed
    expect([pipeline.envelopes, logged]).toEqual([[], []])
    expect((await post('/v1/telemetry', reading)).status).toBe(202)
  })

  it('not HTTP at all: 400, closed', async () => {
    const { raw } = await startSource()
    const client = await raw()
    client.write(Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01]))
    await client.closed
    expect(client.text).toMatch(/^HTTP\/1\.1 400 /)
  })

  it('fields named like members of objects are nothing special', async () => {
    const { raw } = await startSource()
    const client = await raw()
    client.write(
      requestText('/v1/telemetry?__proto__=1&constructor=2', '1', ['__proto__: x', 'constructor: y', 'toString: z']),
    )
    await client.until(/^HTTP\/1\.1 202 /)
  })

  it('a body that does not come in time is 408, a head too; meanwhile others are served', async () => {
    const timeouts = { headersTimeout: 500, requestTimeout: 1000, connectionsCheckingInterval: 100 }
    const { raw, post, pipeline, metrics, refused } = await startSource({}, timeouts)
    const slowHeads = await Promise.all(Array.from({ length: 50 }, raw))
    for (const client of slowHeads) client.write('POST /v1/telemetry HTTP/1.1\r\nX: ')
    const silent = await raw()
    const slowBody = await raw()
    slowBody.write(requestText('/v1/telemetry', 'x'.repeat(100)).slice(0, -90))
    const dripping = setInterval(() => {
      for (const client of slowHeads) client.write('x')
      slowBody.write('x')
    }, 50)
    expect((await post('/v1/telemetry', reading)).status).toBe(202)
    await Promise.all(slowHeads.map(({ closed }) => closed))
    expect(slowHeads.map(({ text }) => text.slice(0, 12))).toEqual(Array(50).fill('HTTP/1.1 408'))
    await Promise.all([silent.closed, slowBody.closed])
    clearInterval(dripping)
    expect(slowBody.text).toMatch(/^HTTP\/1\.1 408 [\s\S]*"code":"protocol_error"/)
    expect(pipeline.envelopes).toHaveLength(1)
    expect(refused).toEqual(['protocol_error'])
    expect(await metrics.registry.metrics()).toContain('fleetbridge_http_in_hand_bytes 0')
  })
})

describe('closing', () => {
  it('answers what is in hand, refuses what still comes, and ends every connection', async () => {
    const { source, raw, pipeline, refused } = await startSource()
    pipeline.decide = () => undefined
    const [waiting, sending, idle, silent] = [await raw(), await raw(), await raw(), await raw()]
    idle.write(requestText('/nowhere', ''))
    await idle.until(/HTTP\/1\.1 404 /)
    waiting.write(requestText('/v1/telemetry', '1'))
    sending.write(requestText('/v1/telemetry', '12345').slice(0, -3))
    await pipeline.arrived(1)
    await delay(20)
    const closed = source.close()
    await sending.until(/^HTTP\/1\.1 503 [\s\S]*connection: close[\s\S]*"code":"shutting_down"/i)
    await idle.closed
    waiting.write(requestText('/v1/telemetry', '2'))
    await vi.waitFor(() => expect(refused).toEqual(['shutting_down', 'shutting_down']))
    await expect(fetch(`http://127.0.0.1:${source.port}/v1/telemetry`)).rejects.toThrow()
    pipeline.envelopes[0]?.settle(stored)
    await Promise.all([closed, source.close(), waiting.closed, silent.closed])
    expect(waiting.text).toMatch(/^HTTP\/1\.1 202 [\s\S]*connection: close/i)
    expect(pipeline.payloads).toEqual(['1'])
  })

  it('waits no longer than the hold for a verdict that never comes', async () => {
    const { source, raw, pipeline } = await startSource({ holdMs: 200 })
    pipeline.decide = () => undefined
    const client = await raw()
    client.write(requestText('/v1/telemetry', '1'))
    await pipeline.arrived(1)
    await source.close()
    await client.closed
    expect(client.text).toMatch(/^HTTP\/1\.1 503 /)
  })

  it('with nothing in hand is quick', async () => {
    const { source, post } = await startSource()
    await post('/v1/telemetry', reading)
    const started = performance.now()
    await source.close()
    expect(performance.now() - started).toBeLessThan(900)
  })
})

it('names the setting when the port is in use', async () => {
  const { source } = await startSource()
  const again = startHttpSource(
    {
      port: source.port,
      host: '127.0.0.1',
      plain: true,
      tlsPort: 0,
      webSocket: true,
      maxConnections: 20_000,
      maxConnectionsPerAddress: 5000,
      maxBodyBytes: 1000,
      maxItems: 1,
      holdMs: 100,
    },
    {
      pipeline: { push() {} },
      authenticator: new TestAuthenticator(),
      log: silentLog,
      metrics: createMetrics('test'),
    },
  )
  await expect(again).rejects.toMatchObject({
    code: 'BRIDGE_PORT_IN_USE',
    message: expect.stringContaining('BRIDGE_HTTP_PORT='),
  })
})

it('counts requests by route pattern and status', async () => {
  const { post, url, metrics } = await startSource()
  for (const device of ['a', 'b', 'c']) await post(`/v1/devices/${device}/telemetry`, reading)
  await post('/v1/telemetry', reading, { authorization: 'no' })
  await fetch(`${url}/api/v1/fb_secret/telemetry`)
  await post('/x', '')
  await post('/y', '')
  for (const text of [await metrics.registry.metrics(), await metrics.registry.metrics()]) {
    expect(text.match(/^fleetbridge_http_requests_total.*$/gm)?.sort()).toEqual([
      'fleetbridge_http_requests_total{route="/api/v1/:token/telemetry",status="405"} 1',
      'fleetbridge_http_requests_total{route="/v1/devices/:device/telemetry",status="202"} 3',
      'fleetbridge_http_requests_total{route="/v1/telemetry",status="401"} 1',
      'fleetbridge_http_requests_total{route="other",status="404"} 2',
    ])
    expect(text).not.toContain('fb_secret')
  }
})
