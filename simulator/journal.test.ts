import { expect, it } from 'vitest'
import { Journal, messageState } from './journal.ts'

it('numbers the messages of each device from 1 and keeps their times apart', () => {
  const journal = new Journal(2)
  expect([journal.add(0, 1000), journal.add(1, 1000), journal.add(0, 1000.4), journal.add(0, 900)]).toEqual([
    1, 1, 2, 3,
  ])
  expect([1, 2, 3].map((number) => journal.timeOf(0, number))).toEqual([1000, 1001, 1002])
  expect(journal.timeOf(1, 1)).toBe(1000)
})

it('finds a message by its very time', () => {
  const journal = new Journal(1, 1)
  for (let number = 1; number <= 100; number++) journal.add(0, number * 10)
  expect(journal.numberAt(0, 10)).toBe(1)
  expect(journal.numberAt(0, 1000)).toBe(100)
  expect([9, 11, 1001].map((time) => journal.numberAt(0, time))).toEqual([0, 0, 0])
})

it('counts each message once, whatever is said twice', () => {
  const journal = new Journal(1)
  for (let count = 0; count < 4; count++) journal.add(0, count)
  journal.markSent(0, 1)
  journal.markSent(0, 1)
  expect(journal.markAcknowledged(0, 1)).toBe(true)
  expect(journal.markAcknowledged(0, 1)).toBe(false)
  journal.markSent(0, 2)
  expect(journal.markRefused(0, 2)).toBe(true)
  expect(journal.totals()).toEqual({ due: 4, sent: 2, acknowledged: 1, refused: 1 })
})

it('keeps an answer: a copy that was sent again changes nothing', () => {
  const journal = new Journal(1)
  for (let count = 0; count < 2; count++) journal.add(0, count)
  journal.markSent(0, 1)
  journal.markAcknowledged(0, 1)
  journal.markSent(0, 1)
  expect(journal.markRefused(0, 1)).toBe(false)
  expect(journal.stateOf(0, 1)).toBe(messageState.acknowledged)
  expect(journal.totals()).toEqual({ due: 2, sent: 1, acknowledged: 1, refused: 0 })
})
