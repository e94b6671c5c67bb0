/** What is known of a numbered message: due but never sent, sent, acknowledged, or refused for good. */
export const messageState = { due: 0, sent: 1, acknowledged: 2, refused: 3 } as const

interface Pages {
  times: Float64Array
  states: Uint8Array
  count: number
}

/**
 * What each device has to send and what became of it: nine bytes a message, nothing else is kept, since a body can be made again from
 * its number and its time. Numbers start at 1 in each device; the time (microseconds since the epoch) is the moment at which the
 * message was due, it is the reading's event time, and no two messages of a device share it.
 */
export class Journal {
  readonly devices: number
  readonly #pages: Pages[] = []
  #due = 0
  #sent = 0
  #acknowledged = 0
  #refused = 0

  constructor(devices: number, expectedPerDevice = 64) {
    this.devices = devices
    for (let device = 0; device < devices; device++) {
      const size = Math.max(16, expectedPerDevice)
      this.#pages.push({ times: new Float64Array(size), states: new Uint8Array(size), count: 0 })
    }
  }

  /** Notes one more message of a device. @returns its number */
  add(device: number, timeUs: number): number {
    const pages = this.#of(device)
    if (pages.count === pages.times.length) grow(pages)
    const last = pages.count > 0 ? (pages.times[pages.count - 1] as number) : 0
    pages.times[pages.count] = Math.max(Math.round(timeUs), last + 1)
    this.#due++
    return ++pages.count
  }

  count(device: number): number {
    return this.#of(device).count
  }

  timeOf(device: number, number: number): number {
    return this.#of(device).times[number - 1] as number
  }

  stateOf(device: number, number: number): number {
    return this.#of(device).states[number - 1] as number
  }

  /** Number of the message that has this very time; 0 when there is none. */
  numberAt(device: number, timeUs: number): number {
    const { times, count } = this.#of(device)
    let low = 0
    let high = count
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((times[middle] as number) < timeUs) low = middle + 1
      else high = middle
    }
    return low < count && times[low] === timeUs ? low + 1 : 0
  }

  markSent(device: number, number: number): void {
    if (this.#raise(device, number, messageState.sent)) this.#sent++
  }

  /** @returns false when it was acknowledged or refused before: a second answer counts nothing */
  markAcknowledged(device: number, number: number): boolean {
    if (!this.#raise(device, number, messageState.acknowledged)) return false
    this.#acknowledged++
    return true
  }

  /** @returns false when it was acknowledged or refused before */
  markRefused(device: number, number: number): boolean {
    if (!this.#raise(device, number, messageState.refused)) return false
    this.#refused++
    return true
  }

  /** Messages that were due, sent at least once, acknowledged, refused. */
  totals(): { due: number; sent: number; acknowledged: number; refused: number } {
    return { due: this.#due, sent: this.#sent, acknowledged: this.#acknowledged, refused: this.#refused }
  }

  #of(device: number): Pages {
    const pages = this.#pages[device]
    if (pages === undefined) throw new RangeError(`no device ${device}`)
    return pages
  }

  #raise(device: number, number: number, state: number): boolean {
    const { states } = this.#of(device)
    const known = states[number - 1] as number
    // Both answers are final: a refusal of a copy that was re-sent does not undo the acknowledgement.
    if (known >= state || known === messageState.acknowledged) return false
    states[number - 1] = state
    return true
  }
}

function grow(pages: Pages): void {
  const times = new Float64Array(pages.times.length * 2)
  times.set(pages.times)
  const states = new Uint8Array(times.length)
  states.set(pages.states)
  pages.times = times
  pages.states = states
}
