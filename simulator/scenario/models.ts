export type Scalar = number | string | boolean

/** A metric of a model; units are SenML or UCUM. */
export interface ModelMetric {
  readonly name: string
  readonly unit?: string
}

/** What a kind of device measures. */
export interface DeviceModel {
  readonly name: string
  readonly metrics: readonly ModelMetric[]
  /** A device of its own; the same random numbers make the same one. */
  create(random: () => number): Signals
}

export interface Signals {
  /**
   * The next values, in the order of the metrics.
   * @param hours time of day the device lives in, from 0, going on past 24
   */
  next(hours: number): Scalar[]
}

/** A room: temperature follows the day and wanders, humidity goes against it, the battery runs down. */
const climate: DeviceModel = {
  name: 'climate',
  metrics: [
    { name: 'temperature', unit: 'Cel' },
    { name: 'humidity', unit: '%RH' },
    { name: 'battery', unit: '%EL' },
  ],
  create(random) {
    const middle = 18 + 6 * random()
    const wander = walk(random, 0.02, 2)
    const battery = discharge(random)
    return {
      next(hours) {
        const day = Math.sin(((hours - 9) / 24) * 2 * Math.PI)
        const temperature = middle + 3 * day + wander() + noise(random, 0.1)
        return [
          round(temperature, 2),
          round(bounded(52 - 2 * (temperature - middle) + noise(random, 1), 5, 99), 1),
          battery(),
        ]
      },
    }
  },
}

/** A machine: quiet vibration with bursts of some messages, in which it also warms up. */
const vibration: DeviceModel = {
  name: 'vibration',
  metrics: [
    { name: 'rms', unit: 'mm/s' },
    { name: 'peak', unit: 'mm/s' },
    { name: 'temperature', unit: 'Cel' },
    { name: 'running' },
    { name: 'state' },
  ],
  create(random) {
    const quiet = 0.8 + 0.6 * random()
    let burst = 0
    let heat = 0
    let running = random() < 0.9
    return {
      next() {
        if (burst > 0) burst--
        else if (random() < 0.02) burst = 3 + Math.floor(random() * 12)
        if (random() < 0.005) running = !running
        const level = !running ? 0.05 : burst > 0 ? quiet * (3 + 2 * random()) : quiet
        heat += ((running ? (burst > 0 ? 18 : 8) : 0) - heat) * 0.05
        const rms = Math.max(0, level + noise(random, 0.05))
        const state = !running ? 'stopped' : burst > 0 ? 'alarm' : 'ok'
        return [
          round(rms, 3),
          round(rms * (1.6 + 0.4 * random()), 3),
          round(24 + heat + noise(random, 0.2), 1),
          running,
          state,
        ]
      },
    }
  },
}

/** A vehicle on a closed route: position, speed and heading belong together. */
const tracker: DeviceModel = {
  name: 'tracker',
  metrics: [
    { name: 'lat', unit: 'lat' },
    { name: 'lon', unit: 'lon' },
    { name: 'speed', unit: 'km/h' },
    { name: 'heading', unit: 'deg' },
    { name: 'battery', unit: '%EL' },
  ],
  create(random) {
    const [lat, lon] = [45 + 10 * random(), 5 + 15 * random()]
    const corners = Array.from({ length: 8 }, (_, index) => {
      const angle = (index / 8) * 2 * Math.PI
      const radius = 0.02 + 0.06 * random() // degrees: some kilometres
      return [
        lat + radius * Math.sin(angle),
        lon + (radius * Math.cos(angle)) / Math.cos((lat * Math.PI) / 180),
      ] as const
    })
    const battery = discharge(random)
    let [leg, along] = [Math.floor(random() * corners.length), random()]
    let speed = 50
    return {
      next() {
        speed = bounded(speed + noise(random, 6), 0, 120)
        along += speed / 20_000
        if (along >= 1) [leg, along] = [(leg + 1) % corners.length, 0]
        const [from, to] = [
          corners[leg] as readonly [number, number],
          corners[(leg + 1) % corners.length] as readonly [number, number],
        ]
        const [north, east] = [to[0] - from[0], to[1] - from[1]]
        const heading = (Math.atan2(east, north) * 180) / Math.PI
        return [
          round(from[0] + north * along, 6),
          round(from[1] + east * along, 6),
          round(speed, 1),
          Math.round((heading + 360) % 360),
          battery(),
        ]
      },
    }
  },
}

/** An electricity meter: the total only rises, by what the power says. */
const meter: DeviceModel = {
  name: 'meter',
  metrics: [
    { name: 'energy', unit: 'kWh' },
    { name: 'power', unit: 'W' },
    { name: 'voltage', unit: 'V' },
  ],
  create(random) {
    const base = 80 + 200 * random()
    let total = 1000 + 20_000 * random()
    let kettle = 0
    return {
      next(hours) {
        if (kettle > 0) kettle--
        else if (random() < 0.03) kettle = 2 + Math.floor(random() * 6)
        const evening = Math.max(0, Math.sin(((hours - 13) / 24) * 2 * Math.PI))
        const power = Math.max(0, base * (0.6 + evening) + (kettle > 0 ? 2000 : 0) + noise(random, 10))
        total += power / 1000 / 360
        return [round(total, 4), round(power, 1), round(230 + noise(random, 2), 1)]
      },
    }
  },
}

export const models: readonly DeviceModel[] = [climate, vibration, tracker, meter]

/** A value that wanders and is drawn back to 0, at most `bound` away. */
function walk(random: () => number, step: number, bound: number): () => number {
  let level = 0
  return () => {
    level = bounded(level * 0.999 + noise(random, step * 3), -bound, bound)
    return level
  }
}

/** A battery that only falls, and is changed when it is empty. */
function discharge(random: () => number): () => number {
  let level = 20 + 80 * random()
  const step = 0.002 + 0.01 * random()
  return () => {
    level = level <= 1 ? 100 : level - step
    return round(level, 1)
  }
}

function noise(random: () => number, scale: number): number {
  return (random() + random() + random() - 1.5) * scale
}

function bounded(value: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, value))
}

function round(value: number, decimals: number): number {
  const scale = 10 ** decimals
  return Math.round(value * scale) / scale
}
