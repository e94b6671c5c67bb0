import type { Clock } from './clock.ts'
import { Journal } from './journal.ts'
import type { PayloadMaker } from './payload.ts'
import { Tally } from './tally.ts'

/**
 * What stands between the pace and the connections: the pace says that a message is due, a connection takes it when it can and tells
 * what became of it. Nothing waits in queues; what is due and unsent is only the distance between two numbers.
 */
export class Outbox {
  readonly journal: Journal
  readonly tally = new Tally()
  readonly #payloads: PayloadMaker
  readonly #clock: Clock
  readonly #taken: Uint32Array
  /** True: a device always has a next message, due at the moment at which it is taken (a closed loop). */
  endless = false

  constructor(options: { devices: number; expectedPerDevice?: number; payloads: PayloadMaker; clock: Clock }) {
    this.journal = new Journal(options.devices, options.expectedPerDevice)
    this.#payloads = options.payloads
    this.#clock = options.clock
    this.#taken = new Uint32Array(options.devices)
  }

  /** One more message of a device is due. */
  due(device: number, timeUs: number): void {
    this.journal.add(device, timeUs)
  }

  /** @returns the number of a device's next message, in order; 0 when nothing is due that was not taken before */
  take(device: number): number {
    const taken = this.#taken[device] as number
    if (taken >= this.journal.count(device)) {
      if (!this.endless) return 0
      this.journal.add(device, this.#clock.nowUs())
    }
    const number = taken + 1
    this.#taken[device] = number
    this.journal.markSent(device, number)
    return number
  }

  body(device: number, number: number): string {
    return this.#payloads.body(device, number, this.journal.timeOf(device, number))
  }

  acknowledged(device: number, number: number): void {
    if (!this.journal.markAcknowledged(device, number)) return
    this.tally.acknowledged(this.#clock.nowUs() - this.journal.timeOf(device, number))
  }

  /** The sender was told no, and will not send it again. */
  refused(device: number, number: number, code: string): void {
    if (this.journal.markRefused(device, number)) this.tally.refused(code)
  }
}
