import { expect, it } from 'vitest'
import { seededRandom } from '../random.ts'
import { DueHeap } from './due-heap.ts'

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1_000_000))

it(`gives back the earliest, whatever the order in which it was filled (SEED=${seed})`, () => {
  const random = seededRandom(seed)
  const heap = new DueHeap()
  const times = Array.from({ length: 500 }, () => Math.floor(random() * 100))
  const got: number[] = []
  for (const [index, time] of times.entries()) {
    heap.push(time, index)
    if (random() < 0.3) got.push(times[heap.pop()] as number)
  }
  const rest: number[] = []
  while (heap.size > 0) rest.push(times[heap.pop()] as number)
  expect(rest).toEqual([...rest].sort((one, other) => one - other))
  expect([...got, ...rest].sort((one, other) => one - other)).toEqual([...times].sort((one, other) => one - other))
  expect(heap.pop()).toBe(-1)
  expect(heap.next).toBe(Number.POSITIVE_INFINITY)
})
