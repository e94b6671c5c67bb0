import { once } from 'node:events'
import { gzipSync } from 'node:zlib'
import { describe, expect, it, vi } from 'vitest'
import { ignored, stored } from '../verdict.ts'
import { parkedAs, RawClient, refusedAs, requestText, startSource, tokens } from './http-source.fixture.ts'

const reading = '{"values":{"t":1}}'
const fleet = { authorization: `Bearer ${tokens.fleet}` }
const gzip = { 'content-encoding': 'gzip' }
const zipped = (text: string | Buffer) => new Uint8Array(gzipSync(text))

describe('messages of a body', () => {
  it('an array: one each, marked as elements, with the time and place of the request', async () => {
    const { post, pipeline } = await startSource()
    const response = await post('/v1/devices/pump-1/telemetry', `[${reading}, 5 ,${reading}]`)
    expect(await response.json()).toMatchObject({ accepted: 3 })
    expect(pipeline.payloads).toEqual([reading, '5', reading])
    for (const { ingress } of pipeline.envelopes)
      expect(ingress).toMatchObject({
        arrayElement: true,
        device: 'pump-1',
        ingestTimeUs: pipeline.last.ingestTimeUs,
        arrivedAtMs: pipeline.last.arrivedAtMs,
      })
  })

  it('NDJSON: one a line', async () => {
    const { post, pipeline } = await startSource()
    const response = await post('/v1/telemetry', `${reading}\r\n\n{"n":2}`, { 'content-type': 'application/x-ndjson' })
    expect(await response.json()).toMatchObject({ accepted: 2 })
    expect(pipeline.payloads).toEqual([reading, '{"n":2}'])
    expect(pipeline.last).toMatchObject({ arrayElement: false, contentType: 'application/x-ndjson' })
  })

  it('a fleet body: one a device', async () => {
    const { post, pipeline } = await startSource()
    const response = await post('/v1/telemetry', '{"a":[{"n":1},{"n":2}],"me":[{"n":3}],"__proto__":[]}', fleet)
    expect(await response.json()).toMatchObject({ accepted: 3 })
    expect(pipeline.envelopes.map(({ ingress }) => [ingress.device, ingress.payload.toString()])).toEqual([
      ['a', '[{"n":1},{"n":2}]'],
      ['me', '[{"n":3}]'],
      ['__proto__', '[]'],
    ])
    expect(pipeline.last).toMatchObject({ fleetItem: false, arrayElement: false })
  })

  it('is none for a device credential, nor at a place that names the device', async () => {
    const { post, pipeline } = await startSource()
    await post('/v1/telemetry', '{"a":[{"n":1}],"b":[]}')
    await post('/v1/devices/x/telemetry', '{"a":[{"n":1}],"b":[]}', fleet)
    await post('/telemetry/ingest', '{"a":[{"n":1}],"b":[]}', fleet)
    expect(pipeline.payloads).toEqual(Array(3).fill('{"a":[{"n":1}],"b":[]}'))
  })

  it('verdicts in any order find their places', async () => {
    const { post, pipeline } = await startSource()
    pipeline.decide = () => undefined
    const answer = post('/v1/telemetry', '[1,2,3]')
    await pipeline.arrived(3)
    pipeline.envelopes[2]?.settle(refusedAs('not_allowed'))
    pipeline.envelopes[0]?.settle(stored)
    pipeline.envelopes[1]?.settle(parkedAs('bad_value', 'dead-9'))
    const response = await answer
    expect([response.status, await response.json()]).toEqual([
      207,
      {
        accepted: 1,
        id: expect.any(String),
        items: [
          { index: 0, status: 202 },
          { index: 1, status: 400, code: 'bad_value', deadLetter: 'dead-9' },
          { index: 2, status: 403, code: 'not_allowed' },
        ],
      },
    ])
  })

  it.each([
    ['[]', 'application/json'],
    ['[{"a":1},', 'application/json'],
    ['', 'application/json'],
    ['', 'application/x-ndjson'],
    ['\n\n', 'application/x-ndjson'],
    ['21.5', 'text/plain'],
    ['[1,2]', 'text/plain'],
    ['\0\x01', 'application/octet-stream'],
    ['[{"n":"x","v":1}]', 'application/senml+json'],
    ['x=1', 'application/x-www-form-urlencoded'],
    ['--b', 'multipart/form-data; boundary=b'],
    ['{}', 'no such type!'],
    ['{}', ';;;'],
  ])('%j as %s is one message, for the pipeline to judge', async (body, contentType) => {
    const { post, pipeline } = await startSource()
    pipeline.decide = () => parkedAs('unsupported')
    expect((await post('/v1/telemetry', body, { 'content-type': contentType })).status).toBe(400)
    expect(pipeline.payloads).toEqual([body])
    expect(pipeline.last).toMatchObject({ contentType, arrayElement: false })
  })

  it('no content type at all is one, too', async () => {
    const { raw, pipeline } = await startSource()
    const client = await raw()
    client.write(requestText('/v1/telemetry', '[1,2]'))
    await client.until(/^HTTP\/1\.1 202 [\s\S]*"accepted":2/)
    expect(pipeline.last.contentType).toBeUndefined()
  })

  it('no more than allowed, or none of them', async () => {
    const { post, pipeline, refused } = await startSource({ maxItems: 3 })
    expect((await post('/v1/telemetry', '[1,2,3]')).status).toBe(202)
    const lines = { 'content-type': 'application/x-ndjson' }
    const tooMany = [
      await post('/v1/telemetry', '[1,2,3,4]'),
      await post('/v1/telemetry', '1\n2\n3\n4\n', lines),
      await post('/v1/telemetry', '{"a":[],"b":[],"c":[],"d":[]}', fleet),
    ]
    for (const response of tooMany) {
      expect(response.status).toBe(413)
      expect(await response.json()).toMatchObject({ code: 'too_many_items' })
    }
    expect(refused).toEqual(['too_many_items', 'too_many_items', 'too_many_items'])
    expect(pipeline.envelopes).toHaveLength(3)
  })

  it('ten thousand at once', async () => {
    const { post, pipeline } = await startSource()
    const body = `[${Array.from({ length: 10_000 }, (_, n) => `{"n":${n}}`).join()}]`
    expect(await (await post('/v1/telemetry', body)).json()).toMatchObject({ accepted: 10_000 })
    expect(pipeline.payloads[9999]).toBe('{"n":9999}')
    pipeline.decide = (ingress) => (ingress.payload.toString() === '{"n":77}' ? ignored : parkedAs('bad_value'))
    const { items } = (await (await post('/v1/telemetry', body)).json()) as { items: { status: number }[] }
    expect([items.length, items[77]?.status, items[78]?.status]).toEqual([10_000, 202, 400])
  })
})

describe('size', () => {
  const maxBodyBytes = 300_000

  it('up to the bound passes, declared or in chunks', async () => {
    const { post, pipeline } = await startSource({ maxBodyBytes })
    expect((await post('/v1/telemetry', 'x'.repeat(maxBodyBytes))).status).toBe(202)
    expect(pipeline.last.payload.length).toBe(maxBodyBytes)
  })

  it.each([maxBodyBytes + 1, 3_000_000])('%d bytes are 413, and the client reads why', async (length) => {
    const { post, pipeline, refused } = await startSource({ maxBodyBytes })
    const response = await post('/v1/telemetry', 'x'.repeat(length))
    expect([response.status, response.headers.get('connection')]).toEqual([413, 'close'])
    expect(await response.json()).toMatchObject({ code: 'too_large', detail: expect.stringContaining('300000') })
    expect([pipeline.envelopes, refused]).toEqual([[], ['too_large']])
  })

  it('in chunks are 413 as soon as they are too many', async () => {
    const { raw, pipeline, metrics } = await startSource({ maxBodyBytes })
    const client = await raw()
    client.write(
      `POST /v1/telemetry HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${tokens.pump}\r\nTransfer-Encoding: chunked\r\n\r\n`,
    )
    const chunk = `10000\r\n${'x'.repeat(0x10000)}\r\n`
    for (let count = 0; count < 6; count++) client.write(chunk)
    await client.until(/^HTTP\/1\.1 413 [\s\S]*connection: close[\s\S]*"code":"too_large"/i)
    await client.closed
    expect(pipeline.envelopes).toEqual([])
    expect(await metrics.registry.metrics()).toContain('fleetbridge_http_in_hand_bytes 0')
  })

  it('a client that reads only when it has sent all finds its 413', async () => {
    const { raw } = await startSource({ maxBodyBytes })
    const client = await raw()
    client.socket.pause()
    client.write(requestText('/v1/telemetry', 'x'.repeat(10_000_000)))
    await once(client.socket, 'drain')
    client.socket.resume()
    await client.until(/^HTTP\/1\.1 413 [\s\S]*"code":"too_large".*\}$/)
  })

  it('garbage behind a 413 gets no second answer', async () => {
    const { raw } = await startSource({ maxBodyBytes })
    const client = await raw()
    client.write(
      `POST /v1/telemetry HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${tokens.pump}\r\nTransfer-Encoding: chunked\r\n\r\n80000\r\n${'x'.repeat(0x80000)}\r\n`,
    )
    await client.until(/^HTTP\/1\.1 413 /)
    client.write('zz\r\n')
    await client.closed
    expect(client.text.match(/HTTP\/1\.1/g)).toHaveLength(1)
  })

  it('a client that sends for ever after its 413 is cut off', async () => {
    const { raw } = await startSource({ maxBodyBytes })
    const client = await raw()
    client.write(
      `POST /v1/telemetry HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${tokens.pump}\r\nContent-Length: 99999999999\r\n\r\n`,
    )
    const sending = setInterval(() => client.write(Buffer.alloc(100_000)), 5)
    await client.until(/^HTTP\/1\.1 413 /)
    await client.closed
    clearInterval(sending)
  })
})

describe('gzip', () => {
  it.each(['gzip', 'x-gzip', 'GZIP'])('%s is inflated before the body is split', async (encoding) => {
    const { post, pipeline } = await startSource()
    const response = await post('/v1/telemetry', zipped('[{"n":1},{"n":2}]'), { 'content-encoding': encoding })
    expect(response.status).toBe(202)
    expect(pipeline.payloads).toEqual(['{"n":1}', '{"n":2}'])
  })

  it('identity is no encoding', async () => {
    const { post, pipeline } = await startSource()
    expect((await post('/v1/telemetry', reading, { 'content-encoding': 'identity' })).status).toBe(202)
    expect(pipeline.payloads).toEqual([reading])
  })

  it.each([
    ['plain text', new TextEncoder().encode(reading)],
    ['nothing', new Uint8Array()],
    ['half of it', zipped('x'.repeat(10_000)).subarray(0, 25)],
    ['a broken checksum', zipped(reading).with(-6, 255)],
  ])('%s is 400 and not parked', async (_name, body) => {
    const { post, pipeline, refused } = await startSource()
    const response = await post('/v1/telemetry', body, gzip)
    expect(response.status).toBe(400)
    const document = await response.json()
    expect(document).toMatchObject({ code: 'malformed' })
    expect(document).not.toHaveProperty('parked')
    expect([pipeline.envelopes, refused]).toEqual([[], ['malformed']])
  })

  it('the bound holds after inflation, to the byte', async () => {
    const { post, pipeline } = await startSource({ maxBodyBytes: 100_000 })
    expect((await post('/v1/telemetry', zipped('x'.repeat(100_000)), gzip)).status).toBe(202)
    const response = await post('/v1/telemetry', zipped('x'.repeat(100_001)), gzip)
    expect(response.status).toBe(413)
    expect(await response.json()).toMatchObject({ code: 'too_large' })
    expect(pipeline.envelopes).toHaveLength(1)
  })

  it('twenty bombs of 300 MB at once cost no memory, and others are served meanwhile', async () => {
    const { post, metrics } = await startSource()
    const bomb = new Uint8Array(Buffer.concat(Array(300).fill(gzipSync(Buffer.alloc(1_000_000))))) // a file of 300 members
    const before = process.memoryUsage().rss
    const answers = Array.from({ length: 20 }, () => post('/v1/telemetry', bomb, gzip))
    expect((await post('/v1/telemetry', reading)).status).toBe(202)
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual(Array(20).fill(413))
    expect((await post('/v1/telemetry', zipped(reading), gzip)).status).toBe(202)
    expect(process.memoryUsage().rss - before).toBeLessThan(150_000_000)
    expect(await metrics.registry.metrics()).toContain('fleetbridge_http_in_hand_bytes 0')
  })

  it.each(['deflate', 'br', 'zstd', 'gzip, gzip', 'x'])('%s is 415, and says what is accepted', async (encoding) => {
    const { post, pipeline } = await startSource()
    const response = await post('/v1/telemetry', reading, { 'content-encoding': encoding })
    expect([response.status, response.headers.get('accept-encoding')]).toEqual([415, 'gzip'])
    expect(await response.json()).toMatchObject({ code: 'unsupported', status: 415 })
    expect(pipeline.envelopes).toEqual([])
  })
})

describe('waiting', () => {
  it('ends with 503 after the hold; a late verdict harms nobody, and only then is the room free', async () => {
    const { post, pipeline, metrics } = await startSource({ holdMs: 150 })
    pipeline.decide = () => undefined
    const started = performance.now()
    const response = await post('/v1/telemetry', reading)
    expect(performance.now() - started).toBeGreaterThan(140)
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '1'])
    expect(await response.json()).toMatchObject({
      code: 'event_log_unavailable',
      detail: expect.stringContaining('may still be stored'),
    })
    expect(await inHandBytes(metrics)).toBeGreaterThan(0)
    pipeline.envelopes[0]?.settle(stored)
    expect(await inHandBytes(metrics)).toBe(0)
    pipeline.decide = () => stored
    expect((await post('/v1/telemetry', reading)).status).toBe(202)
  })

  it('keeps what was settled in time', async () => {
    const { post, pipeline } = await startSource({ holdMs: 150 })
    pipeline.decide = ({ payload }) => (payload.toString() === '2' ? undefined : stored)
    const response = await post('/v1/telemetry', '[1,2]')
    expect([response.status, await response.json()]).toEqual([
      207,
      {
        accepted: 1,
        id: expect.any(String),
        items: [
          { index: 0, status: 202 },
          { index: 1, status: 503, code: 'event_log_unavailable' },
        ],
      },
    ])
  })

  it('a client that goes away harms nobody', async () => {
    const { raw, post, pipeline, metrics } = await startSource()
    pipeline.decide = () => undefined
    const waiting = await raw()
    waiting.write(requestText('/v1/telemetry', '[1,2]'))
    await pipeline.arrived(2)
    waiting.socket.destroy()
    const sending = await raw()
    sending.write(requestText('/v1/telemetry', 'x'.repeat(1000)).slice(0, -10))
    await vi.waitFor(async () => expect(await inHandBytes(metrics)).toBeGreaterThan(9000))
    sending.socket.resetAndDestroy()
    await Promise.all([waiting.closed, sending.closed])
    for (const envelope of pipeline.envelopes) envelope.settle(stored)
    await vi.waitFor(async () => expect(await inHandBytes(metrics)).toBe(0))
    pipeline.decide = () => stored
    expect((await post('/v1/telemetry', reading)).status).toBe(202)
  })

  it('is bounded over all requests: 503 at once, and whoever is in hand is answered', async () => {
    const { post, raw, pipeline, refused, metrics } = await startSource({ maxBodyBytes: 10_000_000 })
    pipeline.decide = () => undefined
    const big = 'x'.repeat(9_000_000)
    const inHand = Array.from({ length: 7 }, () => post('/v1/telemetry', big))
    await pipeline.arrived(7)
    const response = await post('/v1/telemetry', big)
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '1'])
    expect(await response.json()).toMatchObject({ code: 'queue_full' })
    expect((await post('/v1/telemetry', zipped(big), gzip)).status).toBe(503)
    const asking = await raw()
    asking.write(requestText('/v1/telemetry', big, ['Expect: 100-continue']).slice(0, -big.length))
    await asking.until(/^HTTP\/1\.1 503 /)
    const endless = await raw()
    endless.write(
      `POST /v1/telemetry HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${tokens.pump}\r\nTransfer-Encoding: chunked\r\n\r\n800000\r\n`,
    )
    endless.write('x'.repeat(5_000_000))
    await endless.until(/^HTTP\/1\.1 503 /)
    expect(refused).toEqual(Array(4).fill('queue_full'))
    for (const envelope of pipeline.envelopes) envelope.settle(stored)
    expect((await Promise.all(inHand)).map(({ status }) => status)).toEqual(Array(7).fill(202))
    expect(await inHandBytes(metrics)).toBe(0)
  })

  it('of very many small requests is bounded too', async () => {
    const { source, pipeline, metrics, refused } = await startSource({ holdMs: 60_000 })
    pipeline.decide = () => undefined
    const client = await RawClient.open(source.port)
    const batch = requestText('/v1/telemetry', '1').repeat(1000)
    for (let count = 0; count < 16; count++) client.write(batch)
    await vi.waitFor(() => expect(refused.length).toBeGreaterThan(100), { timeout: 20_000, interval: 50 })
    expect(await inHandBytes(metrics)).toBeLessThanOrEqual(64 * 1024 * 1024)
    expect(pipeline.envelopes.length).toBeLessThan(15_000)
    pipeline.decide = () => stored
    for (const envelope of [...pipeline.envelopes]) envelope.settle(stored)
    const statuses = () => client.text.match(/HTTP\/1\.1 \d+/g) ?? []
    await vi.waitFor(() => expect(statuses()).toHaveLength(16_000), { timeout: 20_000, interval: 100 })
    expect(statuses().filter((line) => line === 'HTTP/1.1 202')).toHaveLength(pipeline.envelopes.length)
    expect(await inHandBytes(metrics)).toBe(0)
  })
})

it('an exception is a 500 whose text is only in the log, and nothing stays in hand', async () => {
  const { post, pipeline, logged, metrics, refused } = await startSource()
  vi.spyOn(pipeline, 'push').mockImplementation(() => {
    throw new Error('inner workings')
  })
  const response = await post('/v1/telemetry', reading)
  const text = await response.text()
  expect(response.status).toBe(500)
  expect(text).not.toContain('inner workings')
  const { instance } = JSON.parse(text) as { instance: string }
  expect(logged).toHaveLength(1)
  expect(logged[0]).toContain('inner workings')
  expect(JSON.parse(logged[0] ?? '')).toMatchObject({ route: '/v1/telemetry', id: instance.slice('urn:uuid:'.length) })
  expect(await inHandBytes(metrics)).toBe(0)
  expect(refused).toEqual(['internal'])
})

async function inHandBytes({ registry }: { registry: { metrics(): Promise<string> } }): Promise<number> {
  return Number(/^fleetbridge_http_in_hand_bytes (\d+)$/m.exec(await registry.metrics())?.[1])
}
