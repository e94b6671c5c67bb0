import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { TelemetryEvent } from '#schema/telemetry-event.ts'
import { deliveryWindowUs } from './message-keys.ts'
import { baseUs, deadLetterOf, eventOf, type StoreDatabase, storeDatabase, TestLog } from './store.fixture.ts'
import type { Store } from './store.ts'

let database: StoreDatabase
let store: Store
/** As a second worker: partitions may be added, so a device's messages may lie in two. */
let otherStore: Store

beforeAll(async () => {
  database = await storeDatabase()
  store = await database.open()
  otherStore = await database.open()
})
afterAll(async () => {
  await Promise.all([store?.close(), otherStore?.close()])
  await database?.[Symbol.asyncDispose]()
})

let logs = 0
const freshLog = () => new TestLog('keys', logs++)
const valuesOf = async (device: string) =>
  (
    await database.rows<{ value: string }>(
      `select coalesce(value::text, text) as value from telemetry where device = $1 order by time, value`,
      [device],
    )
  ).map(({ value }) => value)
const switched = (device: string, text: string, more: Partial<TelemetryEvent> = {}) =>
  eventOf(device, [{ metric: 'switch', text }], more)
/** Without a time of its own: the arrival, and never the same twice. */
let arrivals = 0
const untimed = (device: string, text: string, more: Partial<TelemetryEvent> = {}) => {
  const ingestTimeUs = baseUs + 1000 * ++arrivals
  return eventOf(device, [{ metric: 'switch', text, eventTimeUs: ingestTimeUs, clock: 1 }], { ingestTimeUs, ...more })
}

describe('a message that carries a key', () => {
  it('is stored once: in one batch, in the next, and by another worker', async () => {
    const log = freshLog()
    const copy = () => untimed('once', 'on', { messageKey: 'm-1' })
    expect(await log.write(store, copy(), copy())).toMatchObject({ stored: 1, duplicate: 1, readings: 1 })
    expect(await log.write(store, copy())).toMatchObject({ stored: 0, duplicate: 1 })
    expect(await freshLog().write(otherStore, copy())).toMatchObject({ stored: 0, duplicate: 1 })
    expect(await valuesOf('once')).toEqual(['on'])
  })

  it('is told from another key, and from the same key of another device', async () => {
    const log = freshLog()
    await log.write(store, untimed('a', '1', { messageKey: 'm-1' }), untimed('b', '1', { messageKey: 'm-1' }))
    expect(await log.write(store, untimed('a', '1', { messageKey: 'm-2' }))).toMatchObject({ stored: 1 })
    expect([await valuesOf('a'), await valuesOf('b')]).toEqual([['1', '1'], ['1']])
  })

  it('is a message of its own, also with the values of another at one instant', async () => {
    const sent = ['on', 'off', 'on'].map((text, index) => switched('keyed', text, { messageKey: `m-${index}` }))
    const log = freshLog()
    expect(await log.write(store, ...sent)).toMatchObject({ stored: 3, readings: 3 })
    expect(await log.write(store, ...sent)).toMatchObject({ stored: 0, duplicate: 3, readings: 0 })
    expect(await valuesOf('keyed')).toEqual(['off', 'on', 'on'])
  })

  it('leaves its key free when it is parked', async () => {
    const log = freshLog()
    const many = Array.from({ length: 1000 }, (_, value) => ({ metric: 'full', value, eventTimeUs: baseUs }))
    await log.write(store, eventOf('parked', many))
    const one = eventOf('parked', [{ metric: 'full', value: 1000, eventTimeUs: baseUs }], { messageKey: 'm-1' })
    expect(await log.write(store, one)).toMatchObject({ parked: 1 })
    const mended = { ...one, id: randomUUID(), readings: one.readings.map((r) => ({ ...r, eventTimeUs: baseUs + 1 })) }
    expect(await log.write(store, mended)).toMatchObject({ stored: 1 })
  })

  it('is found however long its key is', async () => {
    const log = freshLog()
    const messageKey = 'x'.repeat(16_000)
    expect(await log.write(store, untimed('long', '1', { messageKey }))).toMatchObject({ stored: 1 })
    expect(await log.write(store, untimed('long', '1', { messageKey }))).toMatchObject({ duplicate: 1 })
  })

  it('is stored once when two workers write it at the same moment', async () => {
    const rounds = 20
    for (let round = 0; round < rounds; round++) {
      const copies = [store, otherStore].map((one) =>
        freshLog().write(one, untimed('race', '1', { messageKey: `race-${round}` })),
      )
      const outcomes = await Promise.all(copies)
      expect(outcomes.map(({ stored, duplicate }) => [stored, duplicate]).sort()).toEqual([
        [0, 1],
        [1, 0],
      ])
    }
    expect(await valuesOf('race')).toHaveLength(rounds)
  })

  it('keeps of the key what the documentation says', async () => {
    await freshLog().write(store, untimed('shown', '1', { messageKey: 'm-17' }))
    expect(
      await database.rows(`select d.external_id as device from recent_message r join device d on d.id = r.device_id
        where r.message_key = encode(substring(sha256(convert_to('m-17', 'UTF8')) for 16), 'hex')::uuid`),
    ).toEqual([{ device: 'shown' }])
  })
})

describe('without keys', () => {
  it('equal readings of one instant are one, and of identity message as many as messages', async () => {
    const log = freshLog()
    const sent = (device: string, more: Partial<TelemetryEvent> = {}) =>
      ['on', 'off', 'on'].map((text) => switched(device, text, more))
    expect(await log.write(store, ...sent('by-value'))).toMatchObject({ stored: 2, duplicate: 1 })
    expect(await log.write(store, ...sent('by-message', { identity: 'message' }))).toMatchObject({ stored: 3 })
    expect([await valuesOf('by-value'), await valuesOf('by-message')]).toEqual([
      ['off', 'on'],
      ['off', 'on', 'on'],
    ])
  })

  it('a record that the log holds twice is one message of identity message', async () => {
    const pulse = switched('twice', '1', { identity: 'message' })
    expect(await freshLog().write(store, pulse, pulse)).toMatchObject({ stored: 1, duplicate: 1 })
    expect(await freshLog().write(store, pulse)).toMatchObject({ duplicate: 1 })
  })

  it('writes no name of a message that has none', async () => {
    await freshLog().write(store, switched('nameless', 'on'), untimed('nameless', 'on'))
    const rows = `select from recent_message r join device d on d.id = r.device_id where d.external_id = 'nameless'`
    expect(await database.rows(rows)).toEqual([])
  })
})

describe('an MQTT re-send of readings without a time', () => {
  const resend = true

  it('is the message that was delivered before, and else a message of its own', async () => {
    const log = freshLog()
    expect(await log.write(store, untimed('dup', 'on', { deliveryKey: 'd-1' }))).toMatchObject({ stored: 1 })
    expect(await log.write(store, untimed('dup', 'on', { deliveryKey: 'd-1', resend }))).toMatchObject({ duplicate: 1 })
    expect(await freshLog().write(otherStore, untimed('dup', 'on', { deliveryKey: 'd-1', resend }))).toMatchObject({
      duplicate: 1,
    })
    expect(await log.write(store, untimed('dup', 'off', { deliveryKey: 'd-2', resend }))).toMatchObject({ stored: 1 })
    expect(await log.write(store, untimed('dup', 'off', { deliveryKey: 'd-2', resend }))).toMatchObject({
      duplicate: 1,
    })
    expect(await valuesOf('dup')).toEqual(['on', 'off'])
  })

  it('is stored when its client uses the packet id for the same bytes again and again: better twice than never', async () => {
    const log = freshLog()
    const pulse = (more: Partial<TelemetryEvent> = {}) => untimed('always-1', '1', { deliveryKey: 'd-1', ...more })
    await log.write(store, pulse())
    await log.write(store, pulse())
    expect(await log.write(store, pulse({ resend }))).toMatchObject({ stored: 1 })
  })

  it('does not look further back than an hour', async () => {
    const log = freshLog()
    const first = untimed('late', '1', { deliveryKey: 'd-1' })
    await log.write(store, first)
    const later = { ...untimed('late', '1', { deliveryKey: 'd-1', resend }) }
    const lateUs = first.ingestTimeUs + deliveryWindowUs + 1
    const late = {
      ...later,
      ingestTimeUs: lateUs,
      readings: later.readings.map((r) => ({ ...r, eventTimeUs: lateUs })),
    }
    expect(await log.write(store, late)).toMatchObject({ stored: 1 })
  })
})

describe('a replayed dead letter', () => {
  it('becomes rows once, and says so', async () => {
    const log = freshLog()
    const letter = deadLetterOf({ device: 'replayed' })
    await log.write(store, letter)
    const again = () => untimed('replayed', 'on', { replayOf: letter.id })
    const marked = `select replay_outcome, replayed_at is not null as replayed from dead_letter where id = $1`
    expect(await log.write(store, again())).toMatchObject({ stored: 1 })
    expect(await database.rows(marked, [letter.id])).toEqual([{ replay_outcome: 'stored', replayed: true }])
    expect(await log.write(store, again())).toMatchObject({ duplicate: 1 })
    expect(await database.rows(marked, [letter.id])).toEqual([{ replay_outcome: 'stored', replayed: true }])
  })

  it('is a duplicate of what its sender has sent again since', async () => {
    const log = freshLog()
    const letter = deadLetterOf({ device: 'sent-again' })
    await log.write(store, letter, untimed('sent-again', 'on', { messageKey: 'm-1' }))
    const replay = untimed('sent-again', 'on', { messageKey: 'm-1', replayOf: letter.id })
    expect(await log.write(store, replay)).toMatchObject({ duplicate: 1 })
    expect(await database.rows('select replay_outcome from dead_letter where id = $1', [letter.id])).toEqual([
      { replay_outcome: 'duplicate' },
    ])
  })

  it('that is parked again stays the same dead letter, with the newest reason and its own bytes', async () => {
    const log = freshLog()
    const letter = deadLetterOf({ device: 'stays' })
    await log.write(store, letter)
    const replay = { ...untimed('stays', 'on', { replayOf: letter.id }), tenant: 'no-such' }
    expect(await log.write(store, replay)).toMatchObject({ parked: 1 })
    expect(
      await database.rows(
        `select code, replay_outcome, replayed_at, convert_from(payload, 'UTF8') as payload from dead_letter where id = $1 or device = 'stays'`,
        [letter.id],
      ),
    ).toEqual([{ code: 'row_refused', replay_outcome: 'parked', replayed_at: null, payload: '{"a":' }])
  })

  it('of several devices waits as long as one of them is parked', async () => {
    const log = freshLog()
    const letter = deadLetterOf({ device: 'gw' })
    await log.write(store, letter)
    const good = untimed('child', 'on', { replayOf: letter.id })
    const bad = { ...untimed('child-2', 'on', { replayOf: letter.id }), tenant: 'no-such' }
    await log.write(store, bad)
    await log.write(store, good)
    const marked = `select replay_outcome, replayed_at from dead_letter where id = $1`
    expect(await database.rows(marked, [letter.id])).toEqual([{ replay_outcome: 'parked', replayed_at: null }])
  })
})
