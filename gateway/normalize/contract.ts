import type { Reading } from '#schema/telemetry-event.ts'
import { quoted } from './quote.ts'

export type ValueType = 'number' | 'text' | 'flag'

/** What a data contract says of one metric. Whatever is absent may be anything. */
export interface MetricContract {
  readonly type?: ValueType
  /** Null: none may be named. */
  readonly unit?: string | null
  readonly min?: number
  readonly max?: number
  /** All values that a text may have. */
  readonly values?: readonly string[]
}

/** A data contract as it is written and kept. */
export interface ContractDocument {
  readonly metrics: Readonly<Record<string, MetricContract>>
  /** Whether metrics may come that are not named; false when absent. */
  readonly others?: boolean
}

export type ContractMode = 'off' | 'warn' | 'park'

export const contractBounds = { metrics: 1000, values: 100 } as const

const keys = { document: ['metrics', 'others'], metric: ['type', 'unit', 'min', 'max', 'values'] } as const

/**
 * What is wrong with a document, in words for whoever wrote it.
 * @param document as parsed from JSON
 */
export function faultOfContract(document: unknown): string | undefined {
  if (!isObject(document))
    return 'a contract is an object: {"metrics":{"temperature":{"type":"number","unit":"Cel","min":-40,"max":85}}}'
  const wrong = unknownKey(document, keys.document)
  if (wrong !== undefined) return `${quoted(wrong)} is not a part of a contract: metrics, others`
  const { metrics, others } = document
  if (others !== undefined && typeof others !== 'boolean') return 'others is true or false'
  if (!isObject(metrics)) return 'metrics is an object of metric names'
  const names = Object.keys(metrics)
  if (names.length > contractBounds.metrics) return `a contract has at most ${contractBounds.metrics} metrics`
  for (const name of names) {
    const fault = faultOfMetric(metrics[name])
    if (fault !== undefined) return `metric ${quoted(name)}: ${fault}`
  }
  return undefined
}

function faultOfMetric(metric: unknown): string | undefined {
  if (!isObject(metric)) return 'it is an object, {} for whatever comes'
  const wrong = unknownKey(metric, keys.metric)
  if (wrong !== undefined) return `${quoted(wrong)} is none of ${keys.metric.join(', ')}`
  const { type, unit, min, max, values } = metric
  if (type !== undefined && type !== 'number' && type !== 'text' && type !== 'flag')
    return 'type is number, text or flag'
  if (unit !== undefined && unit !== null && typeof unit !== 'string') return 'unit is a text, or null for none'
  for (const [name, bound] of [
    ['min', min],
    ['max', max],
  ] as const)
    if (bound !== undefined && (typeof bound !== 'number' || !Number.isFinite(bound))) return `${name} is a number`
  if ((min !== undefined || max !== undefined) && type !== 'number') return 'min and max need "type":"number"'
  if (typeof min === 'number' && typeof max === 'number' && min > max) return 'min is above max'
  if (values === undefined) return undefined
  if (type !== 'text') return 'values need "type":"text"'
  if (!Array.isArray(values) || values.length === 0 || values.some((value) => typeof value !== 'string'))
    return 'values is a list of texts'
  return values.length > contractBounds.values ? `at most ${contractBounds.values} values` : undefined
}

/** A contract in the form that messages are checked against. A message that keeps it allocates nothing. */
export class Contract {
  readonly #metrics = new Map<string, MetricContract & { readonly allowed: ReadonlySet<string> | undefined }>()
  readonly #others: boolean

  /** @param document without a fault */
  constructor({ metrics, others = false }: ContractDocument) {
    this.#others = others
    for (const name of Object.keys(metrics)) {
      const metric = metrics[name] as MetricContract
      this.#metrics.set(name, { ...metric, allowed: metric.values && new Set(metric.values) })
    }
  }

  /** @returns what the first reading does that it may not; undefined when all keep it */
  faultOf(readings: readonly Reading[]): string | undefined {
    for (let index = 0; index < readings.length; index++) {
      const reading = readings[index] as Reading
      const metric = this.#metrics.get(reading.metric)
      if (metric === undefined) {
        if (!this.#others) return `the metric ${quoted(reading.metric)} is not in the contract`
        continue
      }
      const { value, text, unit } = reading
      if (metric.type !== undefined && metric.type !== typeOf(reading))
        return `${quoted(reading.metric)} is a ${typeOf(reading)}, not a ${metric.type}`
      if (metric.unit !== undefined && metric.unit !== (unit ?? null))
        return `${quoted(reading.metric)} has the unit ${unit === undefined ? 'none' : quoted(unit)}, not ${metric.unit === null ? 'none' : quoted(metric.unit)}`
      if (value !== undefined && metric.min !== undefined && value < metric.min)
        return `${quoted(reading.metric)} is ${value}, below ${metric.min}`
      if (value !== undefined && metric.max !== undefined && value > metric.max)
        return `${quoted(reading.metric)} is ${value}, above ${metric.max}`
      if (text !== undefined && metric.allowed?.has(text) === false)
        return `${quoted(reading.metric)} is ${quoted(text)}, none of its values`
    }
    return undefined
  }
}

function typeOf({ value, text }: Reading): ValueType {
  return value !== undefined ? 'number' : text !== undefined ? 'text' : 'flag'
}

function unknownKey(object: Record<string, unknown>, known: readonly string[]): string | undefined {
  return Object.keys(object).find((key) => !known.includes(key))
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
