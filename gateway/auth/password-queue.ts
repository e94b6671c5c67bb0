/** Of the four threads of libuv's pool; the others stay free for files, names and signatures. */
const maxRunning = 2
/** At 0.1 s each and two at a time, the last waits about as long as a client waits for its answer. */
const maxWaiting = 200

interface Lane {
  readonly waiting: (() => void)[]
}

/**
 * Lets a few costly checks run at a time, and those that wait take turns by lane: a flood of guesses at one name delays the other names by one
 * check, not by the flood.
 */
export class PasswordQueue<LaneKey> {
  readonly #lanes = new Map<LaneKey, Lane>()
  #running = 0
  #waiting = 0

  get waiting(): number {
    return this.#waiting
  }

  /** @returns what `work` answers; undefined when too many wait already, in all or in this lane */
  async run<T>(key: LaneKey, maxInLane: number, work: () => Promise<T>): Promise<T | undefined> {
    if (this.#running < maxRunning) this.#running++
    else {
      const lane = this.#lanes.get(key)
      if (this.#waiting >= maxWaiting || (lane?.waiting.length ?? 0) >= maxInLane) return undefined
      await this.#turn(key, lane)
    }
    try {
      return await work()
    } finally {
      this.#next()
    }
  }

  #turn(key: LaneKey, lane: Lane | undefined): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting++
      if (lane === undefined) this.#lanes.set(key, { waiting: [resolve] })
      else lane.waiting.push(resolve)
    })
  }

  /** Hands the place on, so `#running` stays; the lane that was served goes to the end of the row. */
  #next(): void {
    const [first] = this.#lanes
    if (first === undefined) {
      this.#running--
      return
    }
    const [key, lane] = first
    this.#lanes.delete(key)
    const resolve = lane.waiting.shift()
    if (lane.waiting.length > 0) this.#lanes.set(key, lane)
    this.#waiting--
    resolve?.()
  }
}
