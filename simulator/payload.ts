/** The metric that carries the number of a message; every message has it. */
export const numberMetric = 'seq'

interface Signal {
  readonly metric: string
  readonly unit: string
  readonly middle: number
  readonly swing: number
  /** Messages for one turn of the slow wave. */
  readonly period: number
  readonly decimals: number
}

const signals: readonly Signal[] = [
  { metric: 'temperature', unit: 'Cel', middle: 21.5, swing: 4, period: 240, decimals: 2 },
  { metric: 'humidity', unit: '%RH', middle: 48, swing: 12, period: 300, decimals: 1 },
  { metric: 'pressure', unit: 'hPa', middle: 1013, swing: 9, period: 700, decimals: 1 },
  { metric: 'battery', unit: '%EL', middle: 80, swing: 15, period: 2000, decimals: 1 },
  { metric: 'voltage', unit: 'V', middle: 3.6, swing: 0.3, period: 900, decimals: 3 },
]

/** Most readings of one message that a simulated device makes. */
export const maxReadings = 100

/** Makes the bodies of a fleet: the same seed, device, number and time always give the same bytes and values. */
export interface PayloadMaker {
  /** Metrics of every message; the first is {@link numberMetric}. */
  readonly metrics: readonly string[]
  /** The body in the own form, ASCII only; `ts` is the event time in microseconds. */
  body(device: number, number: number, timeUs: number): string
  /** The value of a metric by its index in `metrics`. */
  value(metric: number, device: number, number: number): number
}

export function createPayloadMaker(readings: number, seed: number): PayloadMaker {
  const made = Array.from({ length: readings - 1 }, (_, index) => signalAt(index))
  const heads = made.map(({ metric }) => `,"${metric}":{"value":`)
  const tails = made.map(({ unit }) => `,"unit":"${unit}"}`)

  function value(metric: number, device: number, number: number): number {
    if (metric === 0) return number
    const { middle, swing, period, decimals } = made[metric - 1] as Signal
    // A slow wave with a phase of the device's own, and noise of a tenth of it: a plausible sensor that can be computed again.
    const phase = hash(seed, device, metric) / 4_294_967_296
    const noise = hash(seed + number, device, metric) / 4_294_967_296 - 0.5
    const scale = 10 ** decimals
    const level = middle + swing * (Math.sin(2 * Math.PI * (number / period + phase)) + noise / 5)
    return Math.round(level * scale) / scale
  }

  return {
    metrics: [numberMetric, ...made.map(({ metric }) => metric)],
    value,
    body(device, number, timeUs) {
      let members = `"${numberMetric}":${number}`
      for (let index = 0; index < made.length; index++)
        members += `${heads[index]}${value(index + 1, device, number)}${tails[index]}`
      return `{"ts":${timeUs},"values":{${members}}}`
    },
  }
}

function signalAt(index: number): Signal {
  const signal = signals[index]
  return signal ?? { metric: `channel_${index + 1}`, unit: 'V', middle: 5, swing: 5, period: 60 + index, decimals: 3 }
}

/** Mixes three integers into 32 bits (the finalizer of MurmurHash3, public domain). */
function hash(a: number, b: number, c: number): number {
  let mixed = (Math.imul(a, 0x9e3779b1) ^ Math.imul(b + 1, 0x85ebca6b) ^ Math.imul(c + 1, 0xc2b2ae35)) >>> 0
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
  return (mixed ^ (mixed >>> 16)) >>> 0
}
