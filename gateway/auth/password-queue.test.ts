import { expect, it } from 'vitest'
import { PasswordQueue } from './password-queue.ts'

/** A piece of work that ends when it is told to. */
function work() {
  const started: string[] = []
  const ends: (() => void)[] = []
  return {
    started,
    called: (name: string) => () =>
      new Promise<string>((resolve) => {
        started.push(name)
        ends.push(() => resolve(name))
      }),
    async endOne() {
      ends.shift()?.()
      for (let turn = 0; turn < 10; turn++) await Promise.resolve()
    },
  }
}

it('runs two at a time, and lets lanes take turns', async () => {
  const queue = new PasswordQueue<string>()
  const { started, called, endOne } = work()
  const answers = ['a1', 'a2', 'a3', 'a4', 'a5', 'b1', 'c1'].map((name) => queue.run(name.charAt(0), 64, called(name)))
  expect(started).toEqual(['a1', 'a2'])
  for (let ended = 0; ended < 7; ended++) await endOne()
  expect(started, 'b and c do not wait for all of a').toEqual(['a1', 'a2', 'a3', 'b1', 'c1', 'a4', 'a5'])
  expect(await Promise.all(answers)).toEqual(['a1', 'a2', 'a3', 'a4', 'a5', 'b1', 'c1'])
  expect(queue.waiting).toBe(0)
})

it('turns away what a lane, or all of them, cannot hold', async () => {
  const queue = new PasswordQueue<number>()
  const { called, endOne } = work()
  const first = [0, 1].map((lane) => queue.run(lane, 2, called('first')))
  const held = Array.from({ length: 200 }, (_, index) => queue.run(index >> 1, 2, called('held')))
  expect(queue.waiting).toBe(200)
  expect(await queue.run(5000, 2, called('late')), 'all lanes are full').toBeUndefined()
  await endOne()
  expect(await queue.run(7, 2, called('late')), 'its lane is full').toBeUndefined()
  for (let ended = 0; ended < 203; ended++) await endOne()
  expect((await Promise.all([...first, ...held])).filter((answer) => answer === undefined)).toEqual([])
})

it('goes on when a piece of work fails', async () => {
  const queue = new PasswordQueue<string>()
  const failing = () => Promise.reject(new Error('no memory'))
  const answers = await Promise.allSettled([1, 2, 3].map(() => queue.run('a', 64, failing)))
  expect(answers.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected'])
  expect(await queue.run('a', 64, () => Promise.resolve(1))).toBe(1)
})
