import { expect, it } from 'vitest'
import { reasonCodes } from '#schema/reason-code.ts'
import { ignored, stored, type Verdict } from '../verdict.ts'
import { answerTo } from './answer.ts'
import { parkedAs, refusedAs, startSource } from './http-source.fixture.ts'
import { problemTable } from './problem.ts'

const id = '01890a5d-ac96-774b-bcce-b302099a8057'
const answer = (...verdicts: Verdict[]) => {
  const { status, headers, body } = answerTo(verdicts, id)
  return { status, headers, document: JSON.parse(body) as Record<string, unknown> }
}

it.each(reasonCodes)('%s is a problem of its own, whether refused or parked', (code) => {
  const refused = answer(refusedAs(code))
  expect(refused.status).toBe(problemTable[code].status)
  expect(refused.headers['content-type']).toBe('application/problem+json')
  expect(refused.document).toEqual({
    type: `urn:fleetbridge:problem:${code}`,
    title: problemTable[code].title,
    status: refused.status,
    detail: `it is ${code}`,
    instance: `urn:uuid:${id}`,
    code,
  })
  expect('retry-after' in refused.headers, 'whoever may come back is told when').toBe(
    [429, 503].includes(refused.status),
  )
  expect(answer(parkedAs(code))).toMatchObject({ status: 400, document: { code, parked: true, deadLetter: 'dead-1' } })
})

it('counts what is stored apart from what held no readings', () => {
  expect(answer(stored).document).toEqual({ accepted: 1, id })
  expect(answer(ignored).document).toEqual({ accepted: 0, ignored: 1, id })
  expect(answer(stored, ignored, stored)).toMatchObject({ status: 202, document: { accepted: 2, ignored: 1, id } })
})

it.each([
  [1, '1'],
  [999, '1'],
  [1000, '1'],
  [1001, '2'],
  [59_000.5, '60'],
])('a wait of %d ms is Retry-After: %s', (waitMs, seconds) => {
  const { status, headers, document } = answer(refusedAs('rate_limited', { limit: 'device', waitMs }))
  expect([status, headers['retry-after']]).toEqual([429, seconds])
  expect(document).toMatchObject({ code: 'rate_limited', limit: 'device', waitMs })
})

it('several that fared alike have their one status, and a list', () => {
  const limited = answer(
    refusedAs('rate_limited', { limit: 'device', waitMs: 300 }),
    refusedAs('rate_limited', { limit: 'tenant', waitMs: 2300 }),
  )
  expect([limited.status, limited.headers['retry-after']]).toEqual([429, '3'])
  expect(limited.document).toMatchObject({
    code: 'rate_limited',
    limit: 'device',
    waitMs: 2300,
    items: [
      { index: 0, status: 429, code: 'rate_limited', waitMs: 300 },
      { index: 1, status: 429, code: 'rate_limited', waitMs: 2300 },
    ],
  })
  expect(limited.document).not.toHaveProperty('parked')
  const parked = answer(parkedAs('malformed', 'a'), parkedAs('bad_value', 'b'))
  expect(parked).toMatchObject({ status: 400, headers: { 'content-type': 'application/problem+json' } })
  expect(parked.document).toMatchObject({
    code: 'malformed',
    parked: true,
    items: [
      { index: 0, status: 400, code: 'malformed', deadLetter: 'a' },
      { index: 1, status: 400, code: 'bad_value', deadLetter: 'b' },
    ],
  })
  const away = answer(refusedAs('event_log_unavailable'), refusedAs('queue_full'))
  expect([away.status, away.headers['retry-after'], away.document.code]).toEqual([503, '1', 'event_log_unavailable'])
})

it('parked and refused with the same status is not all parked', () => {
  const mixed = answer(parkedAs('malformed', 'a'), refusedAs('protocol_error'))
  expect(mixed.status).toBe(400)
  expect(mixed.document).not.toHaveProperty('parked')
})

it('several that fared differently are 207, each with its own', () => {
  const { status, headers, document } = answer(
    stored,
    parkedAs('bad_value', 'dead-7'),
    ignored,
    refusedAs('not_allowed'),
    refusedAs('rate_limited', { limit: 'device', waitMs: 1200 }),
  )
  expect([status, headers['content-type'], headers['retry-after']]).toEqual([207, 'application/json', '2'])
  expect(document).toEqual({
    accepted: 1,
    id,
    items: [
      { index: 0, status: 202 },
      { index: 1, status: 400, code: 'bad_value', deadLetter: 'dead-7' },
      { index: 2, status: 202 },
      { index: 3, status: 403, code: 'not_allowed' },
      { index: 4, status: 429, code: 'rate_limited', waitMs: 1200 },
    ],
  })
})

it.each([
  [stored, 202],
  [ignored, 202],
  [parkedAs('malformed'), 400],
  [parkedAs('unsupported'), 400],
  [refusedAs('not_allowed'), 403],
  [refusedAs('rate_limited', { limit: 'device', waitMs: 1 }), 429],
  [refusedAs('event_log_unavailable'), 503],
  [refusedAs('queue_full'), 503],
  [refusedAs('shutting_down'), 503],
  [refusedAs('internal'), 500],
] as const)('over the wire: %o is %d', async (verdict, status) => {
  const { pipeline, post } = await startSource()
  pipeline.decide = () => verdict
  const response = await post('/v1/telemetry', '{"values":{"t":1}}')
  expect(response.status).toBe(status)
  expect(response.headers.get('content-type')).toBe(status === 202 ? 'application/json' : 'application/problem+json')
  const text = await response.text()
  expect(Number(response.headers.get('content-length'))).toBe(Buffer.byteLength(text))
  const document = JSON.parse(text) as Record<string, unknown>
  if (status === 202) expect(document.id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab]/)
  else expect(document.instance).toMatch(/^urn:uuid:/)
})
