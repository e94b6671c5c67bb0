import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { handleOf } from '#platform/handle.ts'
import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import type { DeadLetter } from '#schema/dead-letter.ts'
import type { TelemetryEvent } from '#schema/telemetry-event.ts'
import { createAccounts } from '../accounts.ts'
import type { EventLog } from '../event-log/event-log.ts'
import { createLimitBooks } from '../limit-books.ts'
import { createNormalizer } from '../normalize/create-normalizer.ts'
import { createPipeline } from '../pipeline.ts'
import { configuredPolicy } from '../rate-limit/limit-policy.ts'
import { rulesOf } from '../rate-limit/limits.ts'
import { startMemoryRateLimiter } from '../rate-limit/memory-rate-limiter.ts'
import { ignored, stored, type Verdict } from '../verdict.ts'
import { parkedAs, refusedAs, requestText, startSource, TestAuthenticator, tokens } from './http-source.fixture.ts'

const plain = { 'content-type': 'text/plain; charset=utf-8' }
const telegraf = '/api/v2/write?bucket=b&org=o'

/** What is durable by the stages as they are, with a limit on messages. */
async function startStages(device: string) {
  const events: TelemetryEvent[] = []
  const deadLetters: DeadLetter[] = []
  const eventLog: EventLog = {
    kind: 'direct',
    ackLevel: 'committed',
    awayMs: () => 0,
    async append(newEvents, newDeadLetters) {
      events.push(...newEvents)
      deadLetters.push(...newDeadLetters)
    },
    ...handleOf(() => Promise.resolve()),
  }
  const none = 'none'
  const rateLimiter = await startMemoryRateLimiter(
    configuredPolicy(
      rulesOf({
        device,
        deviceReadings: none,
        deviceBytes: none,
        fleet: none,
        fleetReadings: none,
        fleetBytes: none,
        tenant: none,
        tenantReadings: none,
        tenantBytes: none,
        all: none,
        allReadings: none,
        allBytes: none,
        catchUpDevice: none,
        catchUpFleet: none,
        catchUpTenant: none,
        firstSightDevices: 10,
        firstSightPerMinute: 60,
      }),
    ),
  )
  const metrics = createMetrics('test')
  const pipeline = createPipeline({
    rateLimiter,
    normalizer: createNormalizer({ retentionMs: undefined, authenticator: new TestAuthenticator() }),
    eventLog,
    accounts: createAccounts(metrics),
    limitBooks: createLimitBooks({ metrics, log: silentLog }),
    log: silentLog,
  })
  const source = await startSource({}, {}, { pipeline })
  const total = () => metrics.registry.getSingleMetricAsString('fleetbridge_messages_total')
  return { ...source, events, deadLetters, total }
}

const numbered = (count: number) =>
  Array.from({ length: count }, (_, n) => `m n=${n}i 170000000000${n}000000`).join('\n')

describe('a batch', () => {
  it('is stored line by line, bad lines are parked, and the answer is 204', async () => {
    const { post, events, deadLetters, total } = await startStages('none')
    const body = '# c\nm n=1i 1700000000000000000\r\nm n=x\nm s="a\nb"\nm n=2 soon\n'
    const response = await post(`${telegraf}&precision=ns`, body, plain)
    expect([response.status, await response.text()]).toEqual([204, ''])
    expect(events.map(({ device, codec, readings }) => [device, codec, readings[0]])).toEqual([
      ['pump-1', 'influx-line', { metric: 'm.n', value: 1, eventTimeUs: 1_700_000_000_000_000 }],
      ['pump-1', 'influx-line', { metric: 'm.s', text: 'a\nb', eventTimeUs: expect.any(Number), clock: 1 }],
    ])
    expect(deadLetters.map(({ code, payload, acknowledged }) => [code, payload?.toString(), acknowledged])).toEqual([
      ['malformed', 'm n=x', true],
      ['bad_time', 'm n=2 soon', true],
    ])
    expect(await total()).toMatch(/result="accepted"[^}]*} 4/)
  })

  it('with a precision that is none is parked, to be replayed', async () => {
    const { post, deadLetters } = await startStages('none')
    expect((await post('/write?db=d&precision=fortnight', 'm n=1\nm n=2', plain)).status).toBe(204)
    expect(deadLetters.map(({ code }) => code)).toEqual(['unsupported', 'unsupported'])
  })

  it('above the burst passes when the bucket is full, and the next one is 429 as a whole', async () => {
    const { post, events } = await startStages('10:1')
    expect((await post(telegraf, numbered(35), plain)).status).toBe(204)
    expect(events).toHaveLength(35)
    const response = await post(telegraf, numbered(35), plain)
    expect(response.status).toBe(429)
    // Back to a full bucket: 35 spent and 10 in it, at 10 a second.
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThanOrEqual(3)
    expect(await response.json()).toMatchObject({ code: 'rate_limited', limit: 'device' })
    expect(events).toHaveLength(35)
  })

  it('of more lines than the pipeline takes at once is refused as a whole, too', async () => {
    const { post, events } = await startStages('3000:60')
    expect((await post(telegraf, numbered(2500), plain)).status).toBe(204)
    expect((await post(telegraf, numbered(2500), plain)).status).toBe(429)
    expect(events).toHaveLength(2500)
  })

  it("a device's own credential speaks for no other", async () => {
    const { post, events, deadLetters } = await startStages('none')
    const response = await post(telegraf, 'm,host=pump-1 n=1\nm,host=other n=1', plain)
    expect([response.status, (await response.json()) as unknown]).toMatchObject([403, { code: 'not_allowed' }])
    expect([events.length, deadLetters.length]).toEqual([1, 0])
  })

  it('of a fleet credential has a device by tag in each line', async () => {
    const { post, events } = await startStages('none')
    const fleet = { ...plain, authorization: `Token ${tokens.fleet}` }
    expect((await post(telegraf, 'm,host=a n=1\nm,device=b,host=x n=1\nm n=1', fleet)).status).toBe(204)
    expect(events.map(({ device, gateway }) => [device, gateway])).toEqual([
      ['a', 'gw-1'],
      ['b', 'gw-1'],
      ['gw-1', undefined],
    ])
  })

  it.each(['', '\n', '# nothing\n\n'])('%j holds no line: 204, and nothing is handed on', async (body) => {
    const { post, pipeline, metrics } = await startSource()
    expect((await post(telegraf, body, plain)).status).toBe(204)
    expect(pipeline.envelopes).toEqual([])
    expect(await metrics.registry.getSingleMetricAsString('fleetbridge_http_in_hand_bytes')).toMatch(/ 0$/m)
  })

  it('may be compressed, whatever its content type', async () => {
    const { post, pipeline } = await startSource()
    const headers = { 'content-encoding': 'gzip', 'content-type': 'application/x-www-form-urlencoded' }
    expect((await post(telegraf, new Uint8Array(gzipSync('m n=1\nm n=2')), headers)).status).toBe(204)
    expect(pipeline.payloads).toEqual(['m n=1', 'm n=2'])
  })

  it('comes from Telegraf compressed and in chunks', async () => {
    const { url, pipeline } = await startSource()
    const response = await fetch(url + telegraf, {
      method: 'POST',
      headers: { ...plain, authorization: `Token ${tokens.pump}`, 'content-encoding': 'gzip' },
      body: new Blob([new Uint8Array(gzipSync(`${numbered(3)}\n`))]).stream(),
      duplex: 'half',
    })
    expect(response.status).toBe(204)
    expect(pipeline.payloads).toEqual(numbered(3).split('\n'))
  })

  it('too large or of too many lines is 413: Telegraf sends its halves', async () => {
    const { post, pipeline } = await startSource({ maxItems: 2, maxBodyBytes: 1000 })
    expect((await post(telegraf, 'm n=1\nm n=2\nm n=3', plain)).status).toBe(413)
    expect((await post(telegraf, 'x'.repeat(1001), plain)).status).toBe(413)
    expect(pipeline.envelopes).toEqual([])
  })

  it.each<[number, readonly Verdict[]]>([
    [204, [stored, ignored, parkedAs('malformed')]],
    [
      429,
      [
        stored,
        refusedAs('not_allowed'),
        refusedAs('event_log_unavailable'),
        refusedAs('rate_limited', { limit: 'device', waitMs: 2100 }),
      ],
    ],
    [503, [refusedAs('not_allowed'), refusedAs('queue_full'), parkedAs('malformed')]],
    [500, [stored, refusedAs('internal')]],
    [403, [stored, refusedAs('not_allowed')]],
  ])('has one answer, %i', async (status, verdicts) => {
    const { post, pipeline } = await startSource()
    pipeline.decide = ({ payload }) => verdicts[Number(payload.toString())]
    const response = await post('/write', [...verdicts.keys()].join('\n'), plain)
    expect(response.status).toBe(status)
    expect(response.headers.get('retry-after')).toBe({ 429: '3', 503: '1' }[status] ?? null)
  })

  it('that the event log does not answer in time is 503', async () => {
    const { post, pipeline } = await startSource({ holdMs: 30 })
    pipeline.decide = ({ payload }) => (payload.toString() === '0' ? stored : undefined)
    const response = await post('/write', '0\n1', plain)
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '1'])
  })
})

describe('credentials', () => {
  const send = async (path: string, headers: Record<string, string> = {}) => {
    const { url, pipeline } = await startSource()
    const { status } = await fetch(url + path, { method: 'POST', body: 'm n=1', headers })
    return [status, pipeline.envelopes[0]?.ingress.topic]
  }
  it.each([
    [`/write?db=d&u=pump-1&p=${tokens.pump}&precision=s`, 204, '/write?db=d&precision=s'],
    [`/write?u=&p=${tokens.pump}`, 204, '/write'],
    [`/%77rite?db=a+b&%70=${tokens.pump}`, 204, '/write?db=a+b'],
    [`/write?u=other&p=${tokens.pump}`, 401, undefined],
    ['/write?u=pump-1', 401, undefined],
    ['/write', 401, undefined],
    [`/api/v2/write?u=pump-1&p=${tokens.pump}`, 401, undefined],
    [`/v1/telemetry?p=${tokens.pump}`, 401, undefined],
  ])('in the query of %s: %i', async (path, status, topic) => {
    expect(await send(path)).toEqual([status, topic])
  })

  it('of the header come first', async () => {
    expect(await send(`/write?p=${tokens.pump}`, { authorization: 'Token fb_wrong' })).toEqual([401, undefined])
    expect(await send('/write?p=fb_wrong', { authorization: `Token ${tokens.pump}` })).toEqual([204, '/write'])
  })
})

describe('what clients ask first', () => {
  it.each([
    ['/ping', 204],
    ['/ping?wait_for_leader=1s', 204],
    ['/health', 200],
  ])('%s needs no credentials', async (path, status) => {
    const { url, authenticator } = await startSource()
    for (const method of ['GET', 'HEAD']) {
      const response = await fetch(url + path, { method })
      expect([response.status, response.headers.get('x-influxdb-version')]).toEqual([status, '2.0.0'])
      if (status === 200 && method === 'GET') expect(await response.json()).toMatchObject({ status: 'pass' })
      else expect(await response.text()).toBe('')
    }
    expect(authenticator.asked).toEqual([])
    const wrong = await fetch(url + path, { method: 'DELETE' })
    expect([wrong.status, wrong.headers.get('allow')]).toEqual([405, 'GET, HEAD'])
  })

  it('a connection stays usable after it', async () => {
    const { raw } = await startSource()
    const client = await raw()
    client.write(`HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n${requestText('/write', 'm n=1')}`)
    await client.until(/^HTTP\/1\.1 200 [\s\S]*\r\n\r\nHTTP\/1\.1 204 /)
  })
})
