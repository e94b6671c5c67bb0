import { isUtf8 } from 'node:buffer'
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { DecodeError } from './decode-error.ts'

/** Sparkplug B 3.0 §6.4: the payload as protobuf, by its field numbers. What is not read here (sequence numbers, metadata, properties) is skipped. */
export interface SparkplugPayload {
  /** Milliseconds since the epoch. */
  readonly timestamp: number | undefined
  readonly metrics: readonly SparkplugMetric[]
}

export interface SparkplugMetric {
  name: string
  alias: bigint | undefined
  /** Milliseconds since the epoch. */
  timestamp: number | undefined
  /** 0: not told. */
  datatype: number
  isNull: boolean
  /** As it stands in its field; undefined when there is none, or one of the kinds that are not read. */
  value: number | bigint | boolean | string | Uint8Array | undefined
}

/** Far beyond what a message may hold; births name more than they may hold readings. */
const maxMetrics = 20_000

/** @throws {DecodeError} `malformed`, `too_many_readings` */
export function readSparkplugPayload(bytes: Buffer): SparkplugPayload {
  try {
    return readPayload(new BinaryReader(bytes, strictUtf8))
  } catch (error) {
    if (error instanceof DecodeError) throw error
    throw new DecodeError('malformed', 'not a Sparkplug payload: the protobuf is damaged')
  }
}

/** A command to tell the births once more (§6.4.22): without a sequence number, which only an edge node gives. */
export function rebirthCommand(nowMs: number): Buffer {
  const now = BigInt(nowMs)
  const metric = new BinaryWriter()
    .tag(1, WireType.LengthDelimited)
    .string('Node Control/Rebirth')
    .tag(3, WireType.Varint)
    .uint64(now)
    .tag(4, WireType.Varint)
    .uint32(datatypes.Boolean)
    .tag(14, WireType.Varint)
    .bool(true)
    .finish()
  const payload = new BinaryWriter().tag(1, WireType.Varint).uint64(now)
  return Buffer.from(payload.tag(2, WireType.LengthDelimited).bytes(metric).finish())
}

/** §6.4.16 */
export const datatypes = {
  Int8: 1,
  Int16: 2,
  Int32: 3,
  Int64: 4,
  UInt8: 5,
  UInt16: 6,
  UInt32: 7,
  UInt64: 8,
  Float: 9,
  Double: 10,
  Boolean: 11,
  String: 12,
  DateTime: 13,
  Text: 14,
  UUID: 15,
  DataSet: 16,
  Bytes: 17,
  File: 18,
  Template: 19,
  PropertySet: 20,
  PropertySetList: 21,
  Int8Array: 22,
  DateTimeArray: 34,
} as const

function readPayload(reader: BinaryReader): SparkplugPayload {
  let timestamp: number | undefined
  const metrics: SparkplugMetric[] = []
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag()
    if (field === 1 && wireType === WireType.Varint) timestamp = Number(reader.uint64())
    else if (field === 2 && wireType === WireType.LengthDelimited) {
      if (metrics.length === maxMetrics) throw new DecodeError('too_many_readings', `more than ${maxMetrics} metrics`)
      metrics.push(readMetric(reader))
    } else reader.skip(wireType, field)
  }
  if (reader.pos !== reader.len) throw new RangeError('a field is longer than the payload')
  return { timestamp, metrics }
}

/** In place: a reader for each metric would cost more than what is in it. */
function readMetric(reader: BinaryReader): SparkplugMetric {
  const end = reader.uint32() + reader.pos
  if (end > reader.len) throw new RangeError('the metric is longer than the payload')
  const metric: SparkplugMetric = {
    name: '',
    alias: undefined,
    timestamp: undefined,
    datatype: 0,
    isNull: false,
    value: undefined,
  }
  while (reader.pos < end) {
    const [field, wireType] = reader.tag()
    if (!readField(reader, metric, field, wireType)) reader.skip(wireType, field)
  }
  if (reader.pos !== end) throw new RangeError('a field is longer than its metric')
  return metric
}

/** @returns false for a field that is not read: nothing of it was taken */
function readField(reader: BinaryReader, metric: SparkplugMetric, field: number, wireType: WireType): boolean {
  if (wireTypes[field] !== wireType) return false
  switch (field) {
    case 1:
      metric.name = reader.string()
      return true
    case 2:
      metric.alias = BigInt(reader.uint64())
      return true
    case 3:
      metric.timestamp = Number(reader.uint64())
      return true
    case 4:
      metric.datatype = reader.uint32()
      return true
    case 7:
      metric.isNull = reader.bool()
      return true
    case 10:
      metric.value = reader.uint32()
      return true
    case 11:
      metric.value = BigInt(reader.uint64())
      return true
    case 12:
      metric.value = reader.float()
      return true
    case 13:
      metric.value = reader.double()
      return true
    case 14:
      metric.value = reader.bool()
      return true
    case 15:
      metric.value = reader.string()
      return true
    case 16:
      metric.value = reader.bytes()
      return true
    default:
      return false
  }
}

/** Of the fields of a metric that are read; one with another wire type is an unknown field, as protobuf has it. */
const wireTypes: (WireType | undefined)[] = []
for (const field of [2, 3, 4, 7, 10, 11, 14]) wireTypes[field] = WireType.Varint
for (const field of [1, 15, 16]) wireTypes[field] = WireType.LengthDelimited
wireTypes[12] = WireType.Bit32
wireTypes[13] = WireType.Bit64

function strictUtf8(bytes: Uint8Array): string {
  if (!isUtf8(bytes)) throw new DecodeError('malformed', 'a text is not UTF-8')
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString()
}
