import { keys } from './keys.ts'
import type { RedisLink } from './redis-link.ts'

/** While Redis is away; past it the messages come once more. */
const maxWaiting = 20_000

/** What clients have acknowledged, for the queues in Redis: written in groups, and before anything else is said of the session. */
export class Acknowledgements {
  readonly #link: RedisLink
  readonly #waiting = new Map<string, Set<number>>()
  #count = 0
  #isScheduled = false

  constructor(link: RedisLink) {
    this.#link = link
  }

  /** @param id inside id of the client @param number of the message */
  add(id: string, number: number): void {
    if (this.#count >= maxWaiting) return
    let numbers = this.#waiting.get(id)
    if (numbers === undefined) {
      numbers = new Set()
      this.#waiting.set(id, numbers)
    }
    if (numbers.has(number)) return
    numbers.add(number)
    this.#count++
    if (this.#isScheduled || !this.#link.isShared) return
    this.#isScheduled = true
    setImmediate(() => {
      this.#isScheduled = false
      if (this.#link.isShared) for (const each of [...this.#waiting.keys()]) this.flush(each)
    })
  }

  has(id: string, number: number): boolean {
    return this.#waiting.get(id)?.has(number) === true
  }

  /** Written before whatever the caller writes next. */
  flush(id: string): void {
    const numbers = this.#waiting.get(id)
    if (numbers === undefined) return
    this.#forget(id, numbers)
    this.#link.run('ack', [keys.session(id), keys.queue(id)], [...numbers]).catch(() => {
      for (const number of numbers) this.add(id, number)
    })
  }

  #forget(id: string, numbers: Set<number>): void {
    this.#waiting.delete(id)
    this.#count -= numbers.size
  }
}
