import type { Codec, Decoded, Scalar } from './codec.ts'
import type { CodecInput } from './codec-input.ts'
import { DecodeError } from './decode-error.ts'
import type { AliasKey, BornMetric, NodeAddress } from './edge-nodes.ts'
import { exactInteger } from './exact-integer.ts'
import { isBlank } from './json.ts'
import { quoted } from './quote.ts'
import { ReadingList } from './reading-list.ts'
import { datatypes, readSparkplugPayload, type SparkplugMetric, type SparkplugPayload } from './sparkplug-payload.ts'
import { addPresence } from './text-reading.ts'
import { timeOfMilliseconds } from './time.ts'
import { named } from './topic-device.ts'

/** Eclipse Sparkplug B 3.0: `spBv1.0/GROUP/TYPE/NODE[/DEVICE]`, metrics by name or by the alias that a birth gave them. */
export const sparkplugCodec: Codec = { name: 'sparkplug-b', decode }

export function isSparkplug(topic: string): boolean {
  return topic.startsWith('spBv1.0/')
}

type MessageType = 'birth' | 'data' | 'death'

interface Place {
  readonly type: MessageType
  /** `GROUP/NODE` */
  readonly node: string
  /** '' for the node itself */
  readonly device: string
}

function decode(input: CodecInput): Decoded {
  const readings = new ReadingList()
  const place = placeOf(input.context.topic)
  if (place === undefined) return readings
  const { node, device } = place
  const name = device === '' ? node : `${node}/${device}`
  if (isBlank(input.payload)) throw new DecodeError('empty', 'there is nothing in it')
  const payload = readSparkplugPayload(input.payload)
  const { tenant, transportDevice = '', edgeNodes } = input.context
  const address: NodeAddress = { tenant, sender: transportDevice, node }
  switch (place.type) {
    case 'death':
      // The broker sends a node's for it, long after the node has written it.
      if (device === '') addPresence(readings, name, false)
      else readings.add(name, 'online', false, undefined, timeOfMilliseconds(payload.timestamp))
      return readings
    case 'birth':
      // Before the values are looked at: a birth that is parked for one of them still names the metrics of what follows.
      edgeNodes.bear(address, device, payload.metrics.filter(isNamed).map(bornMetric))
      addMetrics(readings, name, payload, place, (metric) => metric)
      readings.add(name, 'online', true, undefined, timeOfMilliseconds(payload.timestamp))
      return readings
    case 'data':
      addMetrics(readings, name, payload, place, bornBefore)
      if (edgeNodes.isBorn(address)) return readings
      return { readings: readings.readings, unborn: node }
  }

  function bornBefore(metric: SparkplugMetric): BornMetric | undefined {
    return metric.alias === undefined ? undefined : edgeNodes.byAlias(address, aliasKey(metric))
  }

  function addMetrics(
    readings: ReadingList,
    name: string,
    { timestamp, metrics }: SparkplugPayload,
    { node, device }: Place,
    bornOf: (metric: SparkplugMetric) => Pick<BornMetric, 'name' | 'datatype'> | undefined,
  ): void {
    for (const metric of metrics) {
      const born = metric.name === '' ? bornOf(metric) : undefined
      const metricName = born?.name || metric.name
      if (metricName === '') throw unknownAlias(metric, node)
      const datatype = metric.datatype || born?.datatype || edgeNodes.datatypeOf(address, device, metricName)
      if (isControl(metricName) || metric.isNull || isSkipped(datatype)) continue
      const value = measuredIn(metric, metricName, datatype)
      if (value === undefined) continue
      readings.add(name, metricName, value, undefined, timeOfMilliseconds(metric.timestamp ?? timestamp))
    }
  }
}

/** @returns undefined for what is no telemetry: commands, and what hosts say of themselves */
function placeOf(topic: string): Place | undefined {
  const segments = topic.split('/')
  const [, group = '', type, node = '', device] = segments
  if (group === 'STATE' || type === 'NCMD' || type === 'DCMD') return undefined
  if (type === undefined) throw new DecodeError('malformed', 'the topic must be spBv1.0/GROUP/TYPE/NODE')
  const match = types.get(type)
  if (match === undefined) throw new DecodeError('unsupported', `${quoted(type)} is no type of a Sparkplug message`)
  if (segments.length !== (match.ofDevice ? 5 : 4))
    throw new DecodeError('malformed', `the topic of ${type} has ${match.ofDevice ? 'five' : 'four'} segments`)
  for (const segment of [group, node, device ?? 'x']) named(segment)
  return { type: match.type, node: `${group}/${node}`, device: device ?? '' }
}

const types = new Map<string, { type: MessageType; ofDevice: boolean }>([
  ['NBIRTH', { type: 'birth', ofDevice: false }],
  ['NDATA', { type: 'data', ofDevice: false }],
  ['NDEATH', { type: 'death', ofDevice: false }],
  ['DBIRTH', { type: 'birth', ofDevice: true }],
  ['DDATA', { type: 'data', ofDevice: true }],
  ['DDEATH', { type: 'death', ofDevice: true }],
])

function isNamed({ name }: SparkplugMetric): boolean {
  return name !== ''
}

function bornMetric(metric: SparkplugMetric): BornMetric {
  const { name, datatype, alias } = metric
  return { name, datatype, alias: alias === undefined ? undefined : aliasKey(metric) }
}

function aliasKey({ alias = 0n }: SparkplugMetric): AliasKey {
  return alias <= Number.MAX_SAFE_INTEGER ? Number(alias) : String(alias)
}

function unknownAlias({ alias }: SparkplugMetric, node: string): DecodeError {
  if (alias === undefined) return new DecodeError('malformed', 'a metric has neither name nor alias')
  return new DecodeError('unknown_alias', `no birth of ${quoted(node)} was seen here that names alias ${alias}`, node)
}

/** What the protocol itself needs. */
function isControl(name: string): boolean {
  return name === 'bdSeq' || name.startsWith('Node Control/') || name.startsWith('Device Control/')
}

/** What is no single value. */
function isSkipped(datatype: number): boolean {
  switch (datatype) {
    case datatypes.DataSet:
    case datatypes.File:
    case datatypes.Template:
    case datatypes.PropertySet:
    case datatypes.PropertySetList:
      return true
    default:
      return datatype >= datatypes.Int8Array && datatype <= datatypes.DateTimeArray
  }
}

/** @returns undefined when its field is none that is read, as without a type a DataSet's is */
function measuredIn({ value }: SparkplugMetric, name: string, datatype: number): Scalar | undefined {
  if (value === undefined) return undefined
  switch (datatype) {
    case datatypes.Int8:
      return signed(value, 8, name)
    case datatypes.Int16:
      return signed(value, 16, name)
    case datatypes.Int32:
      return signed(value, 32, name)
    case datatypes.Int64:
      return signed(value, 64, name)
    case datatypes.UInt8:
      return unsigned(value, 8, name)
    case datatypes.UInt16:
      return unsigned(value, 16, name)
    case datatypes.UInt32:
      return unsigned(value, 32, name)
    case datatypes.UInt64:
      return unsigned(value, 64, name)
    case datatypes.Float:
    case datatypes.Double:
      if (typeof value === 'number') return finite(value, name)
      break
    case datatypes.Boolean:
      if (typeof value === 'boolean') return value
      break
    case datatypes.String:
    case datatypes.Text:
    case datatypes.UUID:
      if (typeof value === 'string') return value
      break
    case datatypes.DateTime:
      return dateTime(value, name)
    case datatypes.Bytes:
      if (value instanceof Uint8Array) return base64(value)
      break
    default:
      return untyped(value, name)
  }
  throw wrongType(name)
}

/** Two's complement of its width, as it stands there or extended to the width of either field; anything else does not fit. */
function signed(value: SparkplugMetric['value'], bits: number, name: string): Scalar {
  const raw = integerOf(value, name)
  const extended = BigInt.asIntN(bits, raw)
  if (raw !== BigInt.asUintN(bits, raw) && raw !== BigInt.asUintN(32, extended) && raw !== BigInt.asUintN(64, extended))
    throw new DecodeError('bad_value', `${quoted(name)} does not fit into ${bits} bits`)
  return exactInteger(extended)
}

function unsigned(value: SparkplugMetric['value'], bits: number, name: string): Scalar {
  const raw = integerOf(value, name)
  if (raw !== BigInt.asUintN(bits, raw))
    throw new DecodeError('bad_value', `${quoted(name)} does not fit into ${bits} bits`)
  return exactInteger(raw)
}

function integerOf(value: SparkplugMetric['value'], name: string): bigint {
  if (typeof value === 'bigint') return value
  // A float's field is a number as well; only a whole one can be meant.
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0) return BigInt(value)
  throw wrongType(name)
}

function dateTime(value: SparkplugMetric['value'], name: string): string {
  const date = new Date(Number(integerOf(value, name)))
  if (Number.isNaN(date.getTime())) throw new DecodeError('bad_value', `${quoted(name)} is no date`)
  return date.toISOString()
}

function untyped(value: NonNullable<SparkplugMetric['value']>, name: string): Scalar {
  if (typeof value === 'number') return finite(value, name)
  if (typeof value === 'bigint') return exactInteger(value)
  return value instanceof Uint8Array ? base64(value) : value
}

function finite(value: number, name: string): number {
  if (Number.isFinite(value)) return value
  throw new DecodeError('bad_value', `${quoted(name)} is no finite number`)
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
}

function wrongType(name: string): DecodeError {
  return new DecodeError('bad_value', `the value of ${quoted(name)} is of another type than told`)
}
