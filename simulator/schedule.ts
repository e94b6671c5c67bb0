/**
 * When each message of an open loop is due, whatever the answers do: message n (from 0) at n / rate seconds, so latency measured from
 * there includes every wait (no coordinated omission). Devices take turns, in an order that the seed shuffles.
 */
export interface Schedule {
  /** Messages in all. */
  readonly total: number
  /** Milliseconds after the start at which message n is due. */
  dueAtMs(n: number): number
  /** How many messages are due when this many milliseconds have passed. */
  dueBy(elapsedMs: number): number
  /** Index of the device that sends message n. */
  deviceOf(n: number): number
}

export function createSchedule(options: {
  devices: number
  /** Messages a second, all devices together. */
  rate: number
  durationMs: number
  random: () => number
}): Schedule {
  const { devices, rate, durationMs, random } = options
  const total = Math.max(1, Math.round((rate * durationMs) / 1000))
  const turns = shuffled(devices, random)
  const msEach = 1000 / rate
  return {
    total,
    dueAtMs: (n) => n * msEach,
    dueBy(elapsedMs) {
      if (elapsedMs < 0) return 0
      let due = Math.min(total, Math.floor(elapsedMs / msEach) + 1)
      // The division may round the other way than the multiplication: a message is never early, and never late by a step.
      if (due > 0 && (due - 1) * msEach > elapsedMs) due--
      else if (due < total && due * msEach <= elapsedMs) due++
      return due
    },
    deviceOf: (n) => turns[n % devices] as number,
  }
}

function shuffled(count: number, random: () => number): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, index) => index)
  for (let index = count - 1; index > 0; index--) {
    const other = Math.floor(random() * (index + 1))
    const swap = order[index] as number
    order[index] = order[other] as number
    order[other] = swap
  }
  return order
}
