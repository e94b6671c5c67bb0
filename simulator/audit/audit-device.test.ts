import { describe, expect, it } from 'vitest'
import { auditDevice, emptyAudit, type StoredRow } from './audit-device.ts'
import type { JournaledDevice, JournaledMessage } from './read-journal.ts'

function message(number: number, more: Partial<JournaledMessage> = {}): JournaledMessage {
  return {
    number,
    timeUs: number * 1000,
    values: [number, 20 + number],
    sha256: undefined,
    copies: 1,
    resent: false,
    accepted: 1,
    parked: 0,
    refused: 0,
    ...more,
  }
}

function rowsOf({ number, timeUs, values }: JournaledMessage, more: Partial<StoredRow> = {}): StoredRow[] {
  const row = { eventTimeUs: timeUs, ingestTimeUs: 1_000_000 + number, clock: 0, deviceTimeUs: null, ...more }
  return (values ?? []).map((value, index) => ({ ...row, metric: ['seq', 'temperature'][index] as string, value }))
}

function run(messages: JournaledMessage[], rows: StoredRow[], letters = new Map<string, number>()) {
  const device: JournaledDevice = {
    id: 'pump-1',
    tenant: 'default',
    metrics: ['seq', 'temperature'],
    startedUs: 0,
    messages,
  }
  const counts = emptyAudit()
  const examples: string[] = []
  auditDevice(counts, device, rows, letters, (text) => examples.push(text))
  const { missing, phantom, doubled, reordered } = counts
  return { counts, examples, faults: { missing, phantom, doubled, reordered } }
}

const clean = { missing: 0, phantom: 0, doubled: 0, reordered: 0 }

it('is clean when every acknowledged message is there once', () => {
  const messages = [message(1), message(2), message(3)]
  const { counts, faults } = run(
    messages,
    messages.flatMap((one) => rowsOf(one)),
  )
  expect(faults).toEqual(clean)
  expect(counts).toMatchObject({ sent: 3, acked: 3, rows: 6, duplicates: 0, dead: 0 })
})

it('takes an unacknowledged message whether it is there or not', () => {
  const messages = [message(1, { accepted: 0 }), message(2, { accepted: 0 })]
  expect(run(messages, rowsOf(messages[0] as JournaledMessage)).faults).toEqual(clean)
})

it('misses a message, and a part of one', () => {
  const messages = [message(1), message(2)]
  expect(run(messages, rowsOf(messages[1] as JournaledMessage)).faults).toEqual({ ...clean, missing: 1 })
  const partial = messages.flatMap((one) => rowsOf(one)).filter(({ metric, value }) => metric === 'seq' || value !== 22)
  expect(run(messages, partial).faults).toEqual({ ...clean, missing: 1 })
})

it('sees a doubled row, with another ordinal and at another time', () => {
  const messages = [message(1, { timeUs: 0 })]
  const rows = rowsOf(messages[0] as JournaledMessage, { clock: 1, eventTimeUs: 5000 })
  expect(run(messages, [...rows, ...rows]).faults).toEqual({ ...clean, doubled: 1 })
  const later = rowsOf(messages[0] as JournaledMessage, { clock: 1, eventTimeUs: 6000 })
  expect(run(messages, [...rows, ...later]).faults).toEqual({ ...clean, doubled: 1 })
})

it('sees values that were swapped', () => {
  const messages = [message(1), message(2)]
  const rows = messages.flatMap((one) => rowsOf(one))
  const [, one, , other] = rows as [StoredRow, StoredRow, StoredRow, StoredRow]
  const swapped = [rows[0], { ...one, value: other.value }, rows[2], { ...other, value: one.value }] as StoredRow[]
  expect(run(messages, swapped).faults).toEqual({ ...clean, missing: 2, phantom: 2 })
})

describe('phantoms', () => {
  const messages = [message(1)]
  const rows = rowsOf(messages[0] as JournaledMessage)
  it.each([
    ['a number that was never sent', { ...rows[0], value: 7 }],
    ['a number that is text', { ...rows[0], value: '1' }],
    ['another time', { ...rows[0], eventTimeUs: 1001 }],
    ['a metric that the device has not', { ...rows[1], metric: 'pressure' }],
    ['a time at which nothing was sent', { ...rows[1], eventTimeUs: 77 }],
  ])('%s', (_name, row) => {
    expect(run(messages, [...rows, row as StoredRow]).counts.phantom).toBe(1)
  })
})

it('knows the arrival of a message without time, and the clock that was ahead', () => {
  const untimed = message(1, { timeUs: 0 })
  const ahead = message(2, { timeUs: 9_000_000 })
  const rows = [
    ...rowsOf(untimed, { clock: 1, eventTimeUs: 123 }),
    ...rowsOf(ahead, { clock: 2, eventTimeUs: 456, deviceTimeUs: 9_000_000 }),
  ]
  expect(run([untimed, ahead], rows).faults).toEqual(clean)
  expect(
    run(
      [untimed, ahead],
      rows.map((row) => ({ ...row, deviceTimeUs: 1 })),
    ).counts.phantom,
  ).toBeGreaterThan(0)
})

it('sees what came out of order, but for messages that were sent again', () => {
  const messages = [message(1), message(2), message(3)]
  const [one, two, three] = messages as [JournaledMessage, JournaledMessage, JournaledMessage]
  const rows = [
    ...rowsOf(one, { ingestTimeUs: 10 }),
    ...rowsOf(two, { ingestTimeUs: 30 }),
    ...rowsOf(three, { ingestTimeUs: 20 }),
  ]
  expect(run(messages, rows).faults).toEqual({ ...clean, reordered: 1 })
  three.resent = true
  expect(run(messages, rows).faults).toEqual(clean)
})

it('counts copies that made no row, and dead letters', () => {
  const twice = message(1, { copies: 2, accepted: 2 })
  const broken = message(2, { values: undefined, sha256: 'ab', accepted: 0, parked: 1 })
  const gone = message(3, { values: undefined, sha256: 'cd', accepted: 1 })
  const { counts } = run([twice, broken, gone], rowsOf(twice), new Map([['ab', 1]]))
  expect(counts).toMatchObject({ duplicates: 1, dead: 1, missing: 1, doubled: 0 })
})
