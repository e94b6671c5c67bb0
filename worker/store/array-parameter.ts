/**
 * Array parameters in Postgres's binary format (array_recv): number of dimensions, has-nulls, element type, length, lower bound, then each
 * element with its length. node-postgres sends a Buffer as it is; its own text arrays cost ten times as much on both sides.
 */
const types = {
  bool: 16,
  bytea: 17,
  int8: 20,
  int2: 21,
  int4: 23,
  text: 25,
  float8: 701,
  timestamptz: 1184,
  uuid: 2950,
} as const
const headerBytes = 20
/** Postgres counts microseconds from 2000-01-01, we from 1970-01-01. */
const postgresEpochUs = 946_684_800_000_000
const twoTo32 = 4_294_967_296

/** An array of elements of one width, filled from left to right. */
export class ArrayParameter {
  readonly #bytes: Buffer
  readonly #view: DataView
  #at = headerBytes

  private constructor(type: number, count: number, width: number) {
    // Not from the pool: the view would need its offset, and arrays are mostly larger than what the pool gives.
    this.#bytes = Buffer.allocUnsafeSlow(headerBytes + count * (4 + width))
    this.#view = new DataView(this.#bytes.buffer)
    writeHeader(this.#view, type, count)
  }

  static int2(count: number): ArrayParameter {
    return new ArrayParameter(types.int2, count, 2)
  }

  static int4(count: number): ArrayParameter {
    return new ArrayParameter(types.int4, count, 4)
  }

  static int8(count: number): ArrayParameter {
    return new ArrayParameter(types.int8, count, 8)
  }

  static float8(count: number): ArrayParameter {
    return new ArrayParameter(types.float8, count, 8)
  }

  static bool(count: number): ArrayParameter {
    return new ArrayParameter(types.bool, count, 1)
  }

  static timestamptz(count: number): ArrayParameter {
    return new ArrayParameter(types.timestamptz, count, 8)
  }

  int16(value: number): void {
    this.#view.setInt32(this.#at, 2)
    this.#view.setInt16(this.#at + 4, value)
    this.#at += 6
  }

  int32(value: number): void {
    this.#view.setInt32(this.#at, 4)
    this.#view.setInt32(this.#at + 4, value)
    this.#at += 8
  }

  /** A whole number up to 2^53. */
  int64(value: number): void {
    this.#view.setInt32(this.#at, 8)
    const high = Math.floor(value / twoTo32)
    this.#view.setInt32(this.#at + 4, high)
    this.#view.setUint32(this.#at + 8, value - high * twoTo32)
    this.#at += 12
  }

  float64(value: number): void {
    this.#view.setInt32(this.#at, 8)
    this.#view.setFloat64(this.#at + 4, value)
    this.#at += 12
  }

  boolean(value: boolean): void {
    this.#view.setInt32(this.#at, 1)
    this.#view.setInt8(this.#at + 4, value ? 1 : 0)
    this.#at += 5
  }

  /** Whole microseconds since 1970. */
  time(us: number): void {
    this.int64(us - postgresEpochUs)
  }

  null(): void {
    this.#view.setInt32(this.#at, -1)
    this.#at += 4
  }

  /** The parameter; the array is not to be filled further. */
  end(): Buffer {
    return this.#bytes.subarray(0, this.#at)
  }
}

export function int4Array(values: readonly number[]): Buffer {
  const array = ArrayParameter.int4(values.length)
  for (const value of values) array.int32(value)
  return array.end()
}

export function int8Array(values: readonly number[]): Buffer {
  const array = ArrayParameter.int8(values.length)
  for (const value of values) array.int64(value)
  return array.end()
}

export function boolArray(values: readonly boolean[]): Buffer {
  const array = ArrayParameter.bool(values.length)
  for (const value of values) array.boolean(value)
  return array.end()
}

export function timestamptzArray(values: readonly number[]): Buffer {
  const array = ArrayParameter.timestamptz(values.length)
  for (const value of values) array.time(value)
  return array.end()
}

/** Strings as UTF-8. Postgres refuses U+0000 (22021); lone surrogates would become U+FFFD here. */
export function textArray(values: readonly (string | null)[]): Buffer {
  return variableArray(types.text, values, Buffer.byteLength, (value, into, at) => into.write(value, at, 'utf8'))
}

export function byteaArray(values: readonly (Buffer | null)[]): Buffer {
  return variableArray(
    types.bytea,
    values,
    (value) => value.length,
    (value, into, at) => value.copy(into, at),
  )
}

/** @param values 16 bytes each */
export function uuidArray(values: readonly Buffer[]): Buffer {
  return variableArray(
    types.uuid,
    values,
    (value) => value.length,
    (value, into, at) => value.copy(into, at),
  )
}

function variableArray<Value>(
  type: number,
  values: readonly (Value | null)[],
  lengthOf: (value: Value) => number,
  write: (value: Value, into: Buffer, at: number) => void,
): Buffer {
  let size = headerBytes + 4 * values.length
  for (const value of values) if (value !== null) size += lengthOf(value)
  const bytes = Buffer.allocUnsafeSlow(size)
  const view = new DataView(bytes.buffer)
  writeHeader(view, type, values.length)
  let at = headerBytes
  for (const value of values) {
    const length = value === null ? -1 : lengthOf(value)
    view.setInt32(at, length)
    at += 4
    if (value === null) continue
    write(value, bytes, at)
    at += length
  }
  return bytes
}

function writeHeader(view: DataView, type: number, count: number): void {
  view.setInt32(0, 1)
  view.setInt32(4, 1)
  view.setInt32(8, type)
  view.setInt32(12, count)
  view.setInt32(16, 1)
}
