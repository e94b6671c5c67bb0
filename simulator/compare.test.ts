import { describe, expect, it } from 'vitest'
import { type Comparison, compareDevice, emptyComparison, type StoredReading } from './compare.ts'
import { Journal } from './journal.ts'
import { createPayloadMaker } from './payload.ts'

const payloads = createPayloadMaker(2, 7)
const messages = 5

/** One device with five messages: the first three acknowledged, the fourth unanswered, the fifth refused. */
function sentMessages(): Journal {
  const journal = new Journal(1)
  for (let number = 1; number <= messages; number++) {
    journal.add(0, 1_000_000 * number)
    journal.markSent(0, number)
  }
  for (const number of [1, 2, 3]) journal.markAcknowledged(0, number)
  journal.markRefused(0, 5)
  return journal
}

function rowsOf(journal: Journal, ...numbers: number[]): StoredReading[] {
  return numbers.flatMap((number) =>
    [0, 1].map((metric) => ({
      metric,
      eventTimeUs: journal.timeOf(0, number),
      value: payloads.value(metric, 0, number),
    })),
  )
}

function compare(journal: Journal, rows: readonly StoredReading[]): Comparison {
  const result = emptyComparison()
  compareDevice(result, { index: 0, name: 'pump-1' }, { journal, payloads }, rows)
  return result
}

const clean = { missing: 0, doubled: 0, misplaced: 0, foreign: 0, unackedButStored: 0, refusedButStored: 0 }

describe('what was acknowledged against what is stored', () => {
  const journal = sentMessages()
  const whole = rowsOf(journal, 1, 2, 3)

  it('agrees when every acknowledged message has its rows once', () => {
    expect(compare(journal, whole)).toEqual({ ...clean, rows: 6, examples: [] })
  })

  it.each([0, 1])('names the message that lost a row (metric %i)', (metric) => {
    const rows = whole.filter((row) => row.eventTimeUs !== journal.timeOf(0, 2) || row.metric !== metric)
    expect(compare(journal, rows)).toMatchObject({ ...clean, rows: 5, missing: 1 })
    expect(compare(journal, rows).examples).toEqual([
      `pump-1 number 2 (acknowledged): ${payloads.metrics[metric]} has no row`,
    ])
  })

  it.each([0, 1])('names the message that has a row twice (metric %i)', (metric) => {
    const rows = [...whole, ...rowsOf(journal, 3).filter((row) => row.metric === metric)]
    expect(compare(journal, rows)).toMatchObject({ ...clean, rows: 7, doubled: 1 })
    expect(compare(journal, rows).examples).toEqual([
      `pump-1 number 3 (acknowledged): ${payloads.metrics[metric]} has 2 rows`,
    ])
  })

  it('finds a number that is stored a second time under the time of its arrival', () => {
    const rows = [...whole, { metric: 0, eventTimeUs: 2_000_777, value: 2 }]
    expect(compare(journal, rows)).toMatchObject({ ...clean, doubled: 1, misplaced: 1 })
  })

  it('finds two numbers that changed places', () => {
    const rows = whole.map((row) => {
      if (row.metric !== 0 || (row.value !== 1 && row.value !== 2)) return row
      return { ...row, value: 3 - row.value }
    })
    expect(compare(journal, rows)).toMatchObject({ ...clean, misplaced: 2 })
    expect(compare(journal, rows).examples[0]).toContain('number 2: seq 2 at 1000000 µs is not what was sent')
  })

  it('finds another value than was sent, and a value that is gone', () => {
    const other = whole.map((row, index) => (index === 1 ? { ...row, value: 99 } : row))
    const none = whole.map((row, index) => (index === 1 ? { ...row, value: null } : row))
    expect(compare(journal, other)).toMatchObject({ ...clean, misplaced: 1 })
    expect(compare(journal, none)).toMatchObject({ ...clean, misplaced: 1 })
  })

  it('tells rows of no message apart', () => {
    const rows = [
      ...whole,
      { metric: 0, eventTimeUs: 9_000_000, value: 6 },
      { metric: 0, eventTimeUs: 9_000_001, value: 1.5 },
      { metric: 1, eventTimeUs: 9_000_002, value: 20 },
    ]
    expect(compare(journal, rows)).toMatchObject({ ...clean, rows: 9, foreign: 3 })
  })

  it('counts what was stored without an acknowledgement, and against a refusal', () => {
    expect(compare(journal, rowsOf(journal, 1, 2, 3, 4, 5))).toMatchObject({
      ...clean,
      unackedButStored: 1,
      refusedButStored: 1,
    })
  })

  it('keeps the examples few', () => {
    expect(
      compare(
        journal,
        Array.from({ length: 50 }, () => ({ metric: 0, eventTimeUs: 5, value: 77 })),
      ).examples,
    ).toHaveLength(10)
  })
})

it('makes the same bytes and values again from a seed', () => {
  const [one, same, other] = [createPayloadMaker(7, 1), createPayloadMaker(7, 1), createPayloadMaker(7, 2)]
  expect(one.body(3, 8, 1_790_000_000_000_001)).toBe(same.body(3, 8, 1_790_000_000_000_001))
  expect(one.body(3, 8, 1)).not.toBe(other.body(3, 8, 1))
  const { ts, values } = JSON.parse(one.body(3, 8, 1_790_000_000_000_001)) as {
    ts: number
    values: Record<string, number | { value: number; unit: string }>
  }
  expect(ts).toBe(1_790_000_000_000_001)
  expect(Object.keys(values)).toEqual(one.metrics)
  expect(values.seq).toBe(8)
  expect(values.temperature).toEqual({ value: one.value(1, 3, 8), unit: 'Cel' })
})
