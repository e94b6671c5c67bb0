import { brokenRule } from '#gateway/admin/registry/names.ts'
import { checkReading } from '#gateway/normalize/reading-limits.ts'
import type { Mapping } from './mapping.ts'
import type { FileRow } from './row-source.ts'
import type { ReadTime } from './time-format.ts'

/** A row as an element of the own form, `{"ts":…,"values":{…}}`, or why it is none. */
export type Converted =
  | {
      readonly kind: 'reading'
      readonly line: number
      readonly device: string
      readonly timeUs: number
      readonly json: string
      readonly readings: number
    }
  | { readonly kind: 'rejected'; readonly line: number; readonly device: string; readonly reason: string }
  /** A row whose values are all empty. */
  | { readonly kind: 'empty'; readonly line: number }

export interface ConvertOptions {
  readonly mapping: Mapping
  readonly readTime: ReadTime
  /** By metric. */
  readonly units: ReadonlyMap<string, string>
  /** Texts that say there is no value. */
  readonly nulls: ReadonlySet<string>
  /** `21,5` is a number. */
  readonly decimalComma: boolean
  /** Readings before it are not kept; undefined: for ever, or unknown. */
  readonly oldestUs: number | undefined
}

/** A gateway takes a time further ahead for a wrong clock, and stores the arrival instead. */
const aheadUs = 600_000_000
const maxReadings = 1000

export function convert({ line, cells, fault }: FileRow, options: ConvertOptions): Converted {
  if (cells === undefined || fault !== undefined)
    return { kind: 'rejected', line, device: '', reason: fault ?? 'is no row' }
  const { mapping, readTime, oldestUs } = options
  const device = 'id' in mapping.device ? mapping.device.id : String(cells.get(mapping.device.column) ?? '')
  const reject = (reason: string): Converted => ({ kind: 'rejected', line, device: device.slice(0, 140), reason })
  if (device === '') return reject('names no device')
  const broken = brokenRule(device)
  if (broken !== undefined) return reject(`the device id ${broken}`)
  const given = cells.get(mapping.time)
  if (given === undefined || given === null || given === '') return reject('has no time')
  const timeUs = readTime(given)
  if (timeUs === undefined)
    return reject(`cannot read the time ${JSON.stringify(given).slice(0, 60)}, or it is before 2000 or after 2099`)
  const nowUs = Date.now() * 1000
  if (timeUs > nowUs + aheadUs) return reject(`the time ${JSON.stringify(given).slice(0, 60)} is in the future`)
  if (oldestUs !== undefined && timeUs < oldestUs)
    return reject('is older than readings are kept (BRIDGE_RETENTION_READING)')
  try {
    const values = mapping.metric === undefined ? wide(cells, options) : long(cells, mapping.metric, options)
    if (values.readings === 0) return { kind: 'empty', line }
    if (values.readings > maxReadings) return reject(`has ${values.readings} values, and ${maxReadings} are allowed`)
    return {
      kind: 'reading',
      line,
      device,
      timeUs,
      json: `{"ts":${timeUs},"values":{${values.json}}}`,
      readings: values.readings,
    }
  } catch (error) {
    return reject((error as Error).message)
  }
}

interface Values {
  json: string
  readings: number
}

function wide(cells: ReadonlyMap<string, unknown>, options: ConvertOptions): Values {
  const values: Values = { json: '', readings: 0 }
  for (const column of options.mapping.values) {
    const cell = cells.get(column)
    // A message of the own form, a line each.
    if (column === 'values' && isObject(cell))
      for (const [metric, member] of Object.entries(cell)) add(values, metric, member, undefined, options)
    else add(values, column, cell, undefined, options)
  }
  return values
}

function long(cells: ReadonlyMap<string, unknown>, metricColumn: string, options: ConvertOptions): Values {
  const { values: columns, unit: unitColumn } = options.mapping
  const metric = cells.get(metricColumn)
  if (typeof metric !== 'string' || metric === '') throw new Error('names no metric')
  const unit = unitColumn === undefined ? undefined : cells.get(unitColumn)
  const values: Values = { json: '', readings: 0 }
  for (const column of columns) {
    add(values, metric, cells.get(column), typeof unit === 'string' && unit !== '' ? unit : undefined, options)
    if (values.readings > 0) break
  }
  return values
}

function add(values: Values, metric: string, cell: unknown, unit: string | undefined, options: ConvertOptions): void {
  const value = typeof cell === 'string' ? cellValue(cell, options) : cell
  if (value === undefined || value === null || value === '') return
  if (typeof value === 'object' && !isValueWithUnit(value)) {
    for (const [name, member] of Object.entries(value)) add(values, `${metric}.${name}`, member, undefined, options)
    return
  }
  const scalar = isValueWithUnit(value) ? value.value : value
  if (scalar === null) return
  const named = unit ?? (isValueWithUnit(value) ? value.unit : undefined) ?? options.units.get(metric)
  checkReading({
    metric,
    value: scalar as number | string | boolean,
    unit: named,
    device: '',
    timeUs: undefined,
    element: 0,
  })
  const json =
    named === undefined
      ? `{"value":${JSON.stringify(scalar)}}`
      : `{"value":${JSON.stringify(scalar)},"unit":${JSON.stringify(named)}}`
  values.json += `${values.readings > 0 ? ',' : ''}${JSON.stringify(metric)}:${json}`
  values.readings++
  if (values.readings > maxReadings) throw new Error(`has more than ${maxReadings} values`)
}

const number = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/
const commaNumber = /^[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?$/

/** A cell of CSV: a number, true or false, nothing, else text. `007` is a name and stays one. */
function cellValue(cell: string, { nulls, decimalComma }: ConvertOptions): number | boolean | string | undefined {
  if (cell === '' || nulls.has(cell)) return undefined
  if (decimalComma && commaNumber.test(cell)) return Number(cell.replaceAll('.', '').replace(',', '.'))
  if (number.test(cell) && !/^[+-]?0\d/.test(cell)) return Number(cell)
  const lower = cell.toLowerCase()
  if (lower === 'true') return true
  if (lower === 'false') return false
  return cell
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isValueWithUnit(value: unknown): value is { value: number | string | boolean | null; unit?: string } {
  if (!isObject(value) || !('value' in value) || (typeof value.value === 'object' && value.value !== null)) return false
  return Object.keys(value).every((key) => key === 'value' || (key === 'unit' && typeof value.unit === 'string'))
}
