/** Who is due when, the earliest first: a binary heap of times with one entry for each index. */
export class DueHeap {
  readonly #times: number[] = []
  readonly #indexes: number[] = []

  get size(): number {
    return this.#times.length
  }

  /** Time of the earliest; Infinity when there is none. */
  get next(): number {
    return this.#times[0] ?? Number.POSITIVE_INFINITY
  }

  push(time: number, index: number): void {
    let at = this.#times.push(time) - 1
    this.#indexes.push(index)
    while (at > 0) {
      const parent = (at - 1) >> 1
      if ((this.#times[parent] as number) <= time) break
      this.#move(parent, at)
      at = parent
    }
    this.#times[at] = time
    this.#indexes[at] = index
  }

  /** @returns the index that is earliest; -1 when there is none */
  pop(): number {
    const first = this.#indexes[0]
    if (first === undefined) return -1
    const time = this.#times.pop() as number
    const index = this.#indexes.pop() as number
    const { length } = this.#times
    if (length === 0) return first
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= length) break
      if (child + 1 < length && (this.#times[child + 1] as number) < (this.#times[child] as number)) child++
      if ((this.#times[child] as number) >= time) break
      this.#move(child, at)
      at = child
    }
    this.#times[at] = time
    this.#indexes[at] = index
    return first
  }

  #move(from: number, to: number): void {
    this.#times[to] = this.#times[from] as number
    this.#indexes[to] = this.#indexes[from] as number
  }
}
