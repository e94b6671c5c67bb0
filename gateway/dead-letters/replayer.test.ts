import { describe, expect, it } from 'vitest'
import type { DeadLetter } from '#schema/dead-letter.ts'
import type { TelemetryEvent } from '#schema/telemetry-event.ts'
import { ArrivalClock } from '../normalize/arrival-clock.ts'
import { createNormalizer } from '../normalize/create-normalizer.ts'
import {
  arrivalMs,
  arrivalUs,
  deadLetterOf,
  fleetOf,
  http,
  ingress,
  outcomeOf,
} from '../normalize/normalized.fixture.ts'
import { createReplayer, type ParkedLetter, type SenderRights } from './replayer.ts'

const own: SenderRights = { enabled: true, patterns: [] }
const uuid = (number: number) => `01a0c450-6c7b-7000-8000-${String(number).padStart(12, '0')}`
let numbered = 0

/** As its row would hold it. */
function parkedAs(letter: DeadLetter, sender: SenderRights | undefined = own, more: Partial<ParkedLetter> = {}) {
  const { id, tenant, device, source, topic, contentType = null, stage, ingestTimeUs, payload, context = null } = letter
  return { id, tenant, device, source, topic, contentType, stage, ingestTimeUs, payload, context, sender, ...more }
}

function letterOf(body: string, more: Partial<ParkedLetter> = {}): ParkedLetter {
  return {
    id: uuid(++numbered),
    tenant: 'default',
    device: 'pump-1',
    source: 'mqtt',
    topic: 'devices/me/telemetry',
    contentType: null,
    stage: 'decode',
    ingestTimeUs: arrivalUs,
    payload: Buffer.from(body),
    context: null,
    sender: own,
    ...more,
  }
}

function setUp(append: (events: readonly TelemetryEvent[]) => Promise<void> = async () => {}) {
  const sent: TelemetryEvent[] = []
  const counted = { mqtt: 0, http: 0 }
  const replayer = createReplayer({
    eventLog: {
      async append(events) {
        await append(events)
        sent.push(...events)
      },
    },
    accounts: {
      replayed(source, count) {
        counted[source] += count
      },
    },
    createNormalizer: () =>
      createNormalizer({
        retentionMs: undefined,
        authenticator: { admitDevice: () => 'admitted' },
        clock: new ArrivalClock(),
      }),
  })
  return { replayer, sent, counted }
}

describe('a dead letter goes down the path again', () => {
  it('as the message that it was: sender, arrival, source, name', async () => {
    const { replayer, sent, counted } = setUp()
    const letter = letterOf('{"id":"m-1","values":{"n":1}}')
    expect(await replayer.replay([letter], false)).toEqual([{ id: letter.id, kind: 'sent', messages: 1 }])
    expect(sent).toMatchObject([
      {
        device: 'pump-1',
        messageKey: 'm-1',
        replayOf: letter.id,
        ingestTimeUs: arrivalUs,
        readings: [{ metric: 'n', value: 1, eventTimeUs: arrivalUs, clock: 1 }],
      },
    ])
    expect(sent[0]?.id).not.toBe(letter.id)
    expect(counted).toEqual({ mqtt: 1, http: 0 })
  })

  it('from the dead letter that the normalizer makes, whatever the way it came', async () => {
    const fleet = fleetOf('gw-1')
    const parked = deadLetterOf(
      outcomeOf(
        ingress('[{"n":1e400}]', { principal: fleet, topic: 'gateways/me/telemetry', device: 'a', fleetItem: true }),
      ),
    )
    const element = deadLetterOf(outcomeOf(ingress('{"n":1e400}', http({ arrayElement: true, messageKey: 'r#1' }))))
    const mended = (letter: DeadLetter, body: string) => ({ ...letter, payload: Buffer.from(body) })
    const { replayer, sent } = setUp()
    await replayer.replay(
      [
        parkedAs(mended(parked, '[{"n":1}]'), { enabled: true, patterns: [null] }),
        parkedAs(mended(element, '{"n":2}')),
      ],
      false,
    )
    expect(sent).toMatchObject([
      { tenant: 'acme', device: 'a', gateway: 'gw-1', source: 'mqtt' },
      { tenant: 'default', device: 'pump-1', source: 'http', messageKey: 'r#1' },
    ])
  })

  it('with the headers that its format needs', async () => {
    const headers = new Map([
      ['ce-specversion', '1.0'],
      ['ce-id', 'e-1'],
      ['ce-type', 't'],
      ['ce-source', 'pump-1'],
    ])
    const parked = deadLetterOf(outcomeOf(ingress('{"n":1e400}', http({ headers }))))
    const { replayer, sent } = setUp()
    await replayer.replay([parkedAs({ ...parked, payload: Buffer.from('{"n":1}') })], false)
    expect(sent).toMatchObject([{ device: 'pump-1', codec: 'cloudevents', messageKey: expect.stringContaining('e-1') }])
  })

  it('with its own arrival for times that count from there, and for readings without one', async () => {
    const { replayer, sent } = setUp()
    const senml = { contentType: 'application/senml+json' }
    await replayer.replay([letterOf('[{"n":"a","v":1,"t":-5},{"n":"b","v":2}]', senml), letterOf('{"c":3}')], false)
    const times = sent.flatMap(({ readings }) => readings.map(({ metric, eventTimeUs }) => [metric, eventTimeUs]))
    expect(times).toEqual([
      ['a', arrivalUs - 5_000_000],
      ['b', arrivalUs],
      ['c', arrivalUs + 1],
    ])
    expect(sent[1], 'an arrival may be that of a stored one').toMatchObject({ identity: 'message' })
  })

  it('leaves equal values of one instant one where the device told the time', async () => {
    const { replayer, sent } = setUp()
    await replayer.replay([letterOf(JSON.stringify({ ts: arrivalMs, values: { n: 1 } }))], false)
    expect(sent[0]).not.toHaveProperty('identity')
  })

  it('as the record that it was, when the worker had parked it', async () => {
    const { replayer, sent } = setUp()
    const event = {
      v: 1,
      id: uuid(1),
      tenant: 'default',
      device: 'pump-1',
      source: 'http',
      codec: 'own',
      ingestTimeUs: arrivalUs,
    }
    const readings = [{ metric: 'n', value: 1, eventTimeUs: arrivalUs }]
    const letter = letterOf(JSON.stringify({ ...event, readings }), { stage: 'store', topic: null, sender: undefined })
    await replayer.replay([letter], false)
    expect(sent).toEqual([{ ...event, readings, id: expect.any(String), replayOf: letter.id }])
    expect(sent[0]?.id).not.toBe(event.id)
  })
})

describe('what stays parked', () => {
  it.each<[string, Partial<ParkedLetter>, object]>([
    ['cannot be read still', { payload: Buffer.from('{') }, { code: 'malformed' }],
    ['has no bytes', { payload: null }, { code: 'record_refused' }],
    ['has a sender that nobody knows', { sender: undefined }, { code: 'not_allowed' }],
    ['has a sender that is disabled', { sender: { enabled: false, patterns: [null] } }, { code: 'not_allowed' }],
    ['is another device’s', { payload: Buffer.from('{"device":"pump-2","n":1}') }, { code: 'not_allowed' }],
    ['is no record', { stage: 'store', payload: Buffer.from('{}') }, { code: 'malformed' }],
    ['is a record of another device', { stage: 'store', device: 'pump-2' }, { code: 'malformed' }],
    [
      'lies outside the pattern of today',
      {
        context: { fleet: true, fleetItem: true, device: 'b-1' },
        payload: Buffer.from('[{"n":1}]'),
        sender: { enabled: true, patterns: ['a-*'] },
      },
      { code: 'not_allowed' },
    ],
  ])('because it %s', async (_, more, reason) => {
    const { replayer, sent } = setUp()
    const letter = letterOf('{"n":1}', more)
    expect(await replayer.replay([letter], false)).toMatchObject([{ id: letter.id, kind: 'parked', ...reason }])
    expect(sent).toEqual([])
  })

  it('is no hindrance for the others', async () => {
    const { replayer, sent } = setUp()
    const replayed = await replayer.replay([letterOf('{'), letterOf('{}'), letterOf('{"n":1}')], false)
    expect(replayed.map(({ kind }) => kind)).toEqual(['parked', 'ignored', 'sent'])
    expect(sent).toHaveLength(1)
  })
})

it('a dry run says the same, and sends nothing', async () => {
  const { replayer, sent, counted } = setUp()
  const replayed = await replayer.replay([letterOf('{'), letterOf('{"n":1}')], true)
  expect(replayed.map(({ kind }) => kind)).toEqual(['parked', 'sent'])
  expect([sent, counted]).toEqual([[], { mqtt: 0, http: 0 }])
})

it('an event log that does not answer is an error, and nothing counts', async () => {
  const { replayer, counted } = setUp(() => Promise.reject(new Error('away')))
  await expect(replayer.replay([letterOf('{"n":1}')], false)).rejects.toThrow('away')
  expect(counted).toEqual({ mqtt: 0, http: 0 })
})
