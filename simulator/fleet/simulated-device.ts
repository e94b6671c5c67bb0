import { parseDurationMs } from '../duration.ts'
import { seededRandom } from '../random.ts'
import { type Format, formats, malformedPayload, numberMetric } from '../scenario/formats.ts'
import { type DeviceModel, type ModelMetric, models, type Signals } from '../scenario/models.ts'
import type { Group } from '../scenario/scenario.ts'
import type { Message } from './message.ts'

/** What all devices of a group share, read from the scenario once. */
export class GroupPlan {
  readonly group: Group
  readonly model: DeviceModel
  readonly format: Format
  readonly metrics: readonly ModelMetric[]
  readonly storedMetrics: readonly string[]
  readonly everyMs: number
  readonly lateMs: number
  readonly jumps: readonly { readonly atMs: number; readonly byMs: number }[]
  readonly #qosWeights: readonly number[]

  constructor(group: Group) {
    this.group = group
    this.model = models.find(({ name }) => name === group.model) as DeviceModel
    this.format = formats.find(({ name }) => name === group.format) as Format
    this.metrics = [{ name: numberMetric }, ...this.model.metrics]
    this.storedMetrics = this.metrics.map(({ name }) => this.format.metricName(name))
    this.everyMs = parseDurationMs(group.every) as number
    this.lateMs = parseDurationMs(group.lateBy) as number
    this.jumps = group.jumps.map(({ at, by }) => ({ atMs: parseDurationMs(at) as number, byMs: signedMs(by) }))
    const { qos } = group
    this.#qosWeights = typeof qos === 'number' ? [0, 1, 2].map((one) => (one === qos ? 1 : 0)) : qos
  }

  qosOf(random: number): 0 | 1 | 2 {
    const total = this.#qosWeights.reduce((sum, weight) => sum + weight, 0)
    let left = random * total
    for (let qos = 0; qos < this.#qosWeights.length; qos++) {
      left -= this.#qosWeights[qos] as number
      if (left < 0) return qos as 0 | 1 | 2
    }
    return 1
  }
}

function signedMs(text: string): number {
  return text.startsWith('-') ? -(parseDurationMs(text.slice(1)) ?? 0) : (parseDurationMs(text) ?? 0)
}

/** One device: makes its messages one after the other, with a clock of its own. */
export class SimulatedDevice {
  readonly index: number
  readonly id: string
  readonly token: string
  readonly plan: GroupPlan
  /** When its first message is due, as a part of its interval. */
  readonly phase: number
  readonly #random: () => number
  readonly #signals: Signals
  readonly #run: string
  readonly #startHours: number
  readonly #usedTimes = new Set<number>()
  #number = 0
  #lastTimeUs = 0

  constructor(options: { index: number; id: string; token: string; plan: GroupPlan; seed: number; run: string }) {
    this.index = options.index
    this.id = options.id
    this.token = options.token
    this.plan = options.plan
    this.#run = options.run
    // Neighbouring seeds begin alike in many generators: spread them.
    this.#random = seededRandom(
      Math.imul(options.seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(options.index + 1, 0xc2b2ae35),
    )
    this.phase = this.#random()
    this.#startHours = 24 * this.#random()
    this.#signals = this.plan.model.create(this.#random)
  }

  /** A number from 0 to 1 that the seed repeats. */
  random(): number {
    return this.#random()
  }

  /**
   * The next message.
   * @param dueUs the run's clock; @param sinceStartMs how long the run has been going
   */
  next(dueUs: number, sinceStartMs: number): Message {
    const { plan, id, token, index } = this
    const { group, format, metrics } = plan
    const number = ++this.#number
    const values = [number, ...this.#signals.next(this.#startHours + sinceStartMs / 3_600_000)]
    const timeUs = group.clock === 'none' ? 0 : this.#clock(dueUs, sinceStartMs)
    const broken = this.#random() < group.malformed
    const qos = plan.qosOf(this.#random())
    const copies = this.#random() < group.duplicates && !broken ? 2 : 1
    return {
      device: index,
      number,
      dueUs,
      timeUs,
      values: broken ? undefined : values,
      payload: broken
        ? malformedPayload(this.#run, number)
        : format.payload({ device: id, token, number, timeUs, metrics, values }),
      qos,
      delayed: false,
      copies,
      sends: 0,
      pending: 0,
      settled: false,
    }
  }

  /** Drifts and jumps as the scenario says; never the same time twice, or two messages could not be told apart. */
  #clock(dueUs: number, sinceStartMs: number): number {
    const { driftPpm } = this.plan.group
    let us = dueUs + sinceStartMs * 1000 * (driftPpm / 1_000_000)
    let jumped = false
    for (const { atMs, byMs } of this.plan.jumps)
      if (sinceStartMs >= atMs) {
        us += byMs * 1000
        jumped = true
      }
    const step = this.plan.format.stepUs
    let time = Math.round(us / step) * step
    if (this.plan.jumps.length === 0) time = Math.max(time, this.#lastTimeUs + step)
    else if (jumped || this.#usedTimes.size > 0) while (this.#usedTimes.has(time)) time += step
    if (this.plan.jumps.length > 0) this.#usedTimes.add(time)
    this.#lastTimeUs = time
    return time
  }
}
