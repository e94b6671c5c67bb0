import type { KnownDevice } from './known-device.ts'

/** What one fleet device has brought. */
interface Brought {
  /** Rows of `device` whose `created_by` is one of its credentials. */
  rows: number
  /** Admitted here, and not seen as a row yet. */
  pending: number
  /** Tokens of the minute's bucket that are gone, as of `atMs`. */
  spent: number
  atMs: number
}

/**
 * How many unknown devices a fleet may still bring. Counted by the fleet's device, not by the single credential: a rotated credential gets no
 * new thousand, and `created_by` names the newest credential of the fleet anyway. The rows survive restarts; what is still on its way to
 * them is counted by each gateway for itself, so several gateways overshoot by what they admit until the worker has written it.
 */
export class FirstSight {
  readonly #maxDevices: number
  readonly #maxPerMinute: number
  readonly #fleets = new Map<KnownDevice, Brought>()

  constructor({ firstSightDevices, firstSightPerMinute }: { firstSightDevices: number; firstSightPerMinute: number }) {
    this.#maxDevices = firstSightDevices
    this.#maxPerMinute = firstSightPerMinute
  }

  /** Whether this fleet may bring one more now; then it counts at once. */
  admit(fleet: KnownDevice, nowMs: number): boolean {
    const brought = this.#of(fleet)
    if (brought.rows + brought.pending >= this.#maxDevices) return false
    brought.spent = Math.max(0, brought.spent - ((nowMs - brought.atMs) * this.#maxPerMinute) / 60_000)
    brought.atMs = nowMs
    if (brought.spent + 1 > this.#maxPerMinute) return false
    brought.spent++
    brought.pending++
    return true
  }

  /** The row of a device says who brought it; it was perhaps admitted here. */
  seen(device: KnownDevice, bringer: KnownDevice | undefined): void {
    if (device.bringer !== undefined) this.#of(device.bringer)[device.status === 'new' ? 'pending' : 'rows']--
    device.bringer = bringer
    if (bringer !== undefined) this.#of(bringer).rows++
  }

  /** The row of a device is gone. */
  gone({ bringer }: KnownDevice): void {
    if (bringer !== undefined) this.#of(bringer).rows--
  }

  #of(fleet: KnownDevice): Brought {
    let brought = this.#fleets.get(fleet)
    if (brought === undefined) {
      brought = { rows: 0, pending: 0, spent: 0, atMs: 0 }
      this.#fleets.set(fleet, brought)
    }
    return brought
  }
}
