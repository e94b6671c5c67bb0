import { expect, it } from 'vitest'
import type { Reading } from '#schema/telemetry-event.ts'
import { readRoutes } from '../routes/read-routes.ts'
import { RouteTable } from '../routes/route-table.ts'
import { createDecoderOfOld, type OldMessage } from './decode-again.ts'

const arrivalUs = 1_700_000_000_000_000

function decoder(routes = '', aliases: ReadonlyMap<string, string> = new Map()) {
  const { rules, problems } = readRoutes(routes, 'test')
  expect(problems).toEqual([])
  return createDecoderOfOld({ tenant: 'default', device: 'pump-1', routes: new RouteTable(rules), aliases })
}

function message(payload: object | string, readings: readonly Reading[], more: Partial<OldMessage> = {}): OldMessage {
  return {
    ingestTimeUs: arrivalUs,
    source: 'http',
    topic: '/v1/telemetry',
    contentType: 'application/json',
    context: null,
    payload: Buffer.from(typeof payload === 'string' ? payload : JSON.stringify(payload)),
    readings,
    ...more,
  }
}

const ts = 1_699_999_999
const timed = (metric: string, value: number, unit?: string): Reading => ({
  metric,
  value,
  ...(unit !== undefined && { unit }),
  eventTimeUs: ts * 1e6,
})

it('knows what has not changed, also in another order and years later', () => {
  const decode = decoder()
  const readings = [timed('b', 2), timed('a', 1)]
  expect(decode(message({ ts, values: { a: 1, b: 2 } }, readings))).toEqual({ kind: 'same' })
})

it('tells what goes out and what comes in', () => {
  const decode = decoder('- path: /v1/telemetry\n  rename: { a: x }\n  drop: [c]\n')
  const readings = [timed('a', 1), timed('b', 2), timed('c', 3)]
  expect(decode(message({ ts, values: { a: 1, b: 2, c: 3 } }, readings))).toEqual({
    kind: 'different',
    removed: [timed('a', 1), timed('c', 3)],
    added: [timed('x', 1)],
    readings: [timed('x', 1), timed('b', 2)],
  })
  const dropsAll = decoder('- path: /v1/telemetry\n  drop: ["*"]\n')
  expect(dropsAll(message({ ts, values: { a: 1 } }, [timed('a', 1)]))).toMatchObject({
    kind: 'different',
    readings: [],
  })
})

it('leaves readings without a time where they were, also when the arrival was put off', () => {
  const old: Reading = { metric: 'a', value: 1, eventTimeUs: arrivalUs + 7, clock: 1 }
  expect(decoder()(message({ values: { a: 1 } }, [old]))).toEqual({ kind: 'same' })
  const renamed = decoder('- path: /v1/telemetry\n  rename: { a: x }\n')(message({ values: { a: 1 } }, [old]))
  expect(renamed).toMatchObject({ added: [{ metric: 'x', eventTimeUs: arrivalUs + 7, clock: 1 }] })
  // Several messages of one microsecond do not push each other.
  const decode = decoder()
  for (let n = 0; n < 3; n++) expect(decode(message({ values: { a: 1 } }, [old]))).toEqual({ kind: 'same' })
})

it('finds the device of a fleet by what the message says, and by its other names', () => {
  const context = { sender: 'gw-1', fleet: true } as const
  const payload = { device: 'tag-7', ts, values: { a: 1 } }
  const decode = decoder('', new Map([['tag-7', 'pump-1']]))
  expect(decode(message(payload, [timed('a', 1)], { context }))).toEqual({ kind: 'same' })
  expect(decoder()(message(payload, [timed('a', 1)], { context }))).toMatchObject({
    kind: 'failed',
    message: expect.stringContaining('"tag-7"'),
  })
})

it.each(['{"values":{"a":1e999}}', '{', '{"values":{"a":"\\ud800"}}'])('says why it cannot read %s', (payload) => {
  expect(decoder()(message(payload, [timed('a', 1)]))).toMatchObject({
    kind: 'failed',
    code: expect.stringMatching(/^(bad_value|malformed)$/),
  })
})
