import { readCbor } from './cbor-document.ts'
import type { Codec, Decoded, Scalar } from './codec.ts'
import type { CodecContext, CodecInput } from './codec-input.ts'
import { DecodeError } from './decode-error.ts'
import { exactInteger } from './exact-integer.ts'
import { isBlank, isObject, type JsonObject } from './json.ts'
import { quoted } from './quote.ts'
import { ReadingList } from './reading-list.ts'
import { offsetFrom, timeOfUnit } from './time.ts'
import { transportDevice } from './topic-device.ts'

/** SenML in JSON (RFC 8428 §5). */
export const senmlCodec: Codec = { name: 'senml', decode }

/** SenML in CBOR (§6). */
export const senmlCborCodec: Codec = { name: 'senml-cbor', decode: decodeCbor }

/** RFC 8428 §4.4: the version that it describes. */
const newestVersion = 10
/** RFC 8428 §4.5.3: smaller times are relative to now. */
const firstAbsolute = 2 ** 28
/** RFC 8428 §4.5.1. */
const legalName = /^[A-Za-z0-9][A-Za-z0-9\-:./_]*$/
const joints = new Set([':', '/', '.', '-', '_'])
const labels = new Set(['bn', 'bt', 'bu', 'bv', 'bs', 'bver', 'n', 'u', 'v', 'vs', 'vb', 'vd', 's', 't', 'ut'])
/** §6, table 4. */
const labelsOfCbor: ReadonlyMap<number, string> = new Map(
  ['bs', 'bv', 'bu', 'bt', 'bn', 'bver', 'n', 'u', 'v', 'vs', 'vb', 's', 't', 'ut', 'vd'].map((label, index) => [
    index - 6,
    label,
  ]),
)
const baseLabels = ['bn', 'bt', 'bu', 'bv', 'bs', 'bver'] as const
const base64url = /^[A-Za-z0-9_-]*$/

/** What holds for a record and all after it. */
interface Base {
  name: string
  time: number
  unit: string | undefined
  value: Numeric
  sum: Numeric
}

/** In CBOR, an integer may be larger than a double holds. */
type Numeric = number | bigint

function decode(input: CodecInput): Decoded {
  if (!input.isDocument()) throw new DecodeError('malformed', 'SenML is an array of records')
  return decodeRecords(input.context, input.json())
}

function decodeCbor({ payload, context }: CodecInput): Decoded {
  if (isBlank(payload)) throw new DecodeError('empty', 'there is nothing in it')
  return decodeRecords(context, readCbor(payload, labelsOfCbor))
}

/** The records of a pack, with the labels of JSON; in data from CBOR there are bigints and byte strings. */
export function decodeRecords(context: CodecContext, records: unknown): Decoded {
  if (!Array.isArray(records)) throw new DecodeError('malformed', 'SenML is an array of records')
  const readings = new ReadingList()
  const base: Base = { name: '', time: 0, unit: undefined, value: 0, sum: 0 }
  for (const record of records) {
    if (!isObject(record) || record instanceof Uint8Array)
      throw new DecodeError('malformed', 'a SenML record must be an object')
    addRecord(readings, context, base, record)
    readings.element++
  }
  return readings
}

function addRecord(readings: ReadingList, context: CodecContext, base: Base, record: JsonObject): void {
  checkLabels(record)
  applyBase(base, record)
  const value = measuredIn(base, record)
  const sum = numberIn(record, 's')
  const time = secondsIn(record, 't')
  const unit = textIn(record, 'u') ?? base.unit
  if (value === undefined && sum === undefined) {
    if (baseLabels.some((label) => record[label] !== undefined)) return
    throw new DecodeError('bad_value', 'a SenML record has no value')
  }
  const { device, metric } = nameOf(context, base.name, textIn(record, 'n'), unit)
  const timeUs = timeOf(context, base.time + (time ?? 0))
  if (value !== undefined) readings.add(device, metric, value, unit, timeUs)
  if (sum !== undefined)
    readings.add(device, `${metric}.sum`, total(base.sum, sum), unit === undefined ? undefined : `${unit}.s`, timeUs)
}

/** RFC 8428 §4.4: a label that ends in `_` must be understood. */
function checkLabels(record: JsonObject): void {
  for (const label in record)
    if (label.endsWith('_') && !labels.has(label))
      throw new DecodeError('unsupported', `label ${quoted(label)} is not understood`)
  const version = numberIn(record, 'bver')
  if (version !== undefined && version > newestVersion)
    throw new DecodeError('unsupported', `SenML version ${version} is newer than ${newestVersion}`)
}

function applyBase(base: Base, record: JsonObject): void {
  base.name = textIn(record, 'bn') ?? base.name
  base.time = secondsIn(record, 'bt') ?? base.time
  base.unit = textIn(record, 'bu') ?? base.unit
  base.value = numberIn(record, 'bv') ?? base.value
  base.sum = numberIn(record, 'bs') ?? base.sum
}

function measuredIn(base: Base, record: JsonObject): Scalar | undefined {
  const { vb, vd } = record
  const number = numberIn(record, 'v')
  const text = textIn(record, 'vs')
  const data = vd instanceof Uint8Array ? Buffer.from(vd).toString('base64url') : textIn(record, 'vd')
  if (vb !== undefined && typeof vb !== 'boolean') throw new DecodeError('bad_value', 'vb must be true or false')
  let count = 0
  for (const value of [number, text, vb, data]) if (value !== undefined) count++
  if (count > 1) throw new DecodeError('bad_value', 'a SenML record has more than one value')
  if (number !== undefined) return total(base.value, number)
  return text ?? vb ?? (data === undefined ? undefined : dataText(data))
}

function total(base: Numeric, value: Numeric): number | string {
  if (typeof base === 'number' && typeof value === 'number') return base + value
  if (isWhole(base) && isWhole(value)) return exactInteger(BigInt(base) + BigInt(value))
  return Number(base) + Number(value)
}

function isWhole(value: Numeric): boolean {
  return typeof value === 'bigint' || Number.isInteger(value)
}

/** base64url without padding (RFC 8428 §4.2), which some senders add. */
function dataText(data: string): string {
  const end = data.endsWith('==') ? -2 : data.endsWith('=') ? -1 : data.length
  const text = data.slice(0, end)
  if (!base64url.test(text)) throw new DecodeError('bad_value', 'vd must be base64url')
  return text
}

function nameOf(
  context: CodecContext,
  baseName: string,
  n: string | undefined,
  unit: string | undefined,
): { device: string; metric: string } {
  const name = baseName + (n ?? '')
  if (!legalName.test(name)) throw new DecodeError('bad_value', `${quoted(name)} is no SenML name`)
  const ofUnit = unit || 'value'
  if (baseName !== '') {
    const device = joints.has(baseName.charAt(baseName.length - 1)) ? baseName.slice(0, -1) : baseName
    return { device, metric: n || ofUnit }
  }
  if (name.includes(':') || name.includes('/')) return { device: name, metric: ofUnit }
  return { device: context.device ?? transportDevice(context), metric: name }
}

/** @param seconds since the epoch, or near zero: from now */
function timeOf({ arrivalUs }: CodecContext, seconds: number): number | undefined {
  if (seconds === 0) return undefined
  return Math.abs(seconds) < firstAbsolute ? offsetFrom(arrivalUs, seconds) : timeOfUnit(seconds, 1e6)
}

function textIn(record: JsonObject, label: string): string | undefined {
  const value = record[label]
  if (value === undefined || typeof value === 'string') return value
  throw new DecodeError('bad_value', `${label} must be a text`)
}

function numberIn(record: JsonObject, label: string): Numeric | undefined {
  const value = record[label]
  if (value === undefined || typeof value === 'bigint') return value
  if (typeof value === 'number' && Number.isFinite(value)) return value
  throw new DecodeError('bad_value', `${label} must be a number`)
}

function secondsIn(record: JsonObject, label: string): number | undefined {
  const value = record[label]
  if (value === undefined || typeof value === 'number') return value
  if (typeof value === 'bigint') return Number(value)
  throw new DecodeError('bad_time', `${label} must be a number`)
}
