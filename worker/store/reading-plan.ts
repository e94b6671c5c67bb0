import type { Reading, TelemetryEvent } from '#schema/telemetry-event.ts'
import { ArrayParameter, textArray } from './array-parameter.ts'

/** Values of one metric at one instant: ordinals 0 to 999. */
export const maxOrdinals = 1000
export const tooManyOrdinals = -1

/** JavaScript's own equality is ours: the type matters, -0 equals 0, and NaN never gets here. */
type Value = number | string | boolean

/** One instant of a series. Most hold one value, so the set is made for the second. */
interface Instant {
  value: Value | undefined
  more: Set<Value> | undefined
  count: number
}

/** One metric of one device within the batch. */
interface Series {
  readonly deviceId: number
  readonly metricId: number
  readonly firstTimeUs: number
  readonly first: Instant
  others: Map<number, Instant> | undefined
  /** Indices into the plan's rows, in log order. */
  readonly rows: number[]
  /** The newest by event time; of equals the last. -1: none. */
  latestRow: number
}

/** How a row is taken out of the plan again. */
interface Undo {
  readonly series: Series
  readonly instant: Instant
  /** Its value was not in the instant before. */
  readonly isNewValue: boolean
  /** What `series.latestRow` was before. */
  readonly latestRow: number
}

export interface InstantKey {
  readonly deviceId: number
  readonly metricId: number
  readonly eventTimeUs: number
}

/**
 * What a batch adds to `reading` and `latest`, found in memory: a value equal to one of the same metric and instant is a duplicate,
 * another one gets the next ordinal. It knows what the batch holds, and of the table what `know` told it.
 */
export class ReadingPlan {
  readonly #devices = new Map<number, Map<number, Series>>()
  #series: Series[] = []
  readonly #readings: Reading[] = []
  readonly #ingestTimes: number[] = []
  readonly #ordinals: number[] = []
  readonly #undo: Undo[] = []

  /** Rows to insert. */
  get size(): number {
    return this.#readings.length
  }

  /**
   * Plans one message. Where messages are told apart by their names, each of its readings is a row, also next to an equal one.
   * @param metricIds of its readings, starting at `at`
   * @returns how many of its readings are new, or tooManyOrdinals, and then it left no trace
   */
  add(event: TelemetryEvent, deviceId: number, metricIds: readonly number[], at: number): number {
    const { readings, ingestTimeUs } = event
    const byName = event.messageKey !== undefined || event.identity !== undefined
    const start = this.#readings.length
    this.#undo.length = 0
    for (let index = 0; index < readings.length; index++) {
      const reading = readings[index] as Reading
      const series = this.#seriesOf(deviceId, metricIds[at + index] as number, reading.eventTimeUs)
      const instant = instantOf(series, reading.eventTimeUs)
      const value = valueIn(reading)
      const isNewValue = !holds(instant, value)
      if (!isNewValue && !byName) continue
      if (instant.count >= maxOrdinals) {
        this.#takeBack(start)
        return tooManyOrdinals
      }
      this.#undo.push({ series, instant, isNewValue, latestRow: series.latestRow })
      const row = this.#readings.length
      const newest = series.latestRow === -1 ? undefined : (this.#readings[series.latestRow] as Reading)
      this.#readings.push(reading)
      this.#ingestTimes.push(ingestTimeUs)
      this.#ordinals.push(instant.count)
      series.rows.push(row)
      if (isNewValue) put(instant, value)
      else instant.count++
      if (newest === undefined || reading.eventTimeUs >= newest.eventTimeUs) series.latestRow = row
    }
    return this.#readings.length - start
  }

  /** Notes an instant, so that `instants` names it. */
  touch(deviceId: number, metricId: number, eventTimeUs: number): void {
    instantOf(this.#seriesOf(deviceId, metricId, eventTimeUs), eventTimeUs)
  }

  /** Every instant of the batch. */
  *instants(): Generator<InstantKey> {
    for (const { deviceId, metricId, firstTimeUs, others } of this.#series) {
      yield { deviceId, metricId, eventTimeUs: firstTimeUs }
      if (others !== undefined) for (const eventTimeUs of others.keys()) yield { deviceId, metricId, eventTimeUs }
    }
  }

  /** Names each bucket of this width in which a series has new rows; one may come twice. */
  eachBucket(widthUs: number, visit: (deviceId: number, metricId: number, bucketUs: number) => void): void {
    for (const { deviceId, metricId, rows } of this.#series) {
      let fromUs = Number.POSITIVE_INFINITY
      for (let index = 0; index < rows.length; index++) {
        const { eventTimeUs } = this.#readings[rows[index] as number] as Reading
        if (eventTimeUs >= fromUs && eventTimeUs < fromUs + widthUs) continue
        fromUs = Math.floor(eventTimeUs / widthUs) * widthUs
        visit(deviceId, metricId, fromUs)
      }
    }
  }

  /** Tells of a row that the table holds; before the messages are added. */
  know({ deviceId, metricId, eventTimeUs }: InstantKey, ordinal: number, value: Value): void {
    const instant = instantOf(this.#seriesOf(deviceId, metricId, eventTimeUs), eventTimeUs)
    const next = Math.max(instant.count, ordinal + 1)
    put(instant, value)
    instant.count = next
  }

  /**
   * The rows as parameters of `insertReadings`, at most `maxRows` a statement. They are sorted by device and metric: writers that meet do so
   * in the same order, and rows of a series lie together.
   */
  *readingParameters(maxRows: number): Generator<{ rows: number; values: (Buffer | null)[] }> {
    this.#sort()
    const rows: number[] = []
    const owners: Series[] = []
    for (const series of this.#series) {
      for (const row of series.rows) {
        rows.push(row)
        owners.push(series)
        if (rows.length === maxRows) {
          yield { rows: rows.length, values: this.#parameters(rows, owners, true) }
          rows.length = 0
          owners.length = 0
        }
      }
    }
    if (rows.length > 0) yield { rows: rows.length, values: this.#parameters(rows, owners, true) }
  }

  /** The newest row of each series, sorted likewise, as parameters of `upsertLatest`. */
  *latestParameters(maxRows: number): Generator<(Buffer | null)[]> {
    this.#sort()
    const changed = this.#series.filter(({ latestRow }) => latestRow !== -1)
    for (let from = 0; from < changed.length; from += maxRows) {
      const owners = changed.slice(from, from + maxRows)
      const rows = owners.map(({ latestRow }) => latestRow)
      yield this.#parameters(rows, owners, false)
    }
  }

  #seriesOf(deviceId: number, metricId: number, eventTimeUs: number): Series {
    let metrics = this.#devices.get(deviceId)
    if (metrics === undefined) {
      metrics = new Map()
      this.#devices.set(deviceId, metrics)
    }
    let series = metrics.get(metricId)
    if (series === undefined) {
      series = {
        deviceId,
        metricId,
        firstTimeUs: eventTimeUs,
        first: { value: undefined, more: undefined, count: 0 },
        others: undefined,
        rows: [],
        latestRow: -1,
      }
      metrics.set(metricId, series)
      this.#series.push(series)
    }
    return series
  }

  #takeBack(start: number): void {
    for (let row = this.#readings.length - 1; row >= start; row--) {
      const undo = this.#undo[row - start] as Undo
      if (undo.isNewValue) takeOut(undo.instant, valueIn(this.#readings[row] as Reading))
      else undo.instant.count--
      undo.series.rows.pop()
      undo.series.latestRow = undo.latestRow
    }
    this.#readings.length = start
    this.#ingestTimes.length = start
    this.#ordinals.length = start
  }

  #sort(): void {
    this.#series.sort((a, b) => a.deviceId - b.deviceId || a.metricId - b.metricId)
  }

  /** Columns in which every row holds the default are left out: null unnests to nothing, and SQL fills in. */
  #parameters(rows: readonly number[], owners: readonly Series[], withOrdinals: boolean): (Buffer | null)[] {
    const count = rows.length
    const deviceIds = ArrayParameter.int4(count)
    const metricIds = ArrayParameter.int4(count)
    const eventTimes = ArrayParameter.timestamptz(count)
    const ingestTimes = ArrayParameter.timestamptz(count)
    const values = ArrayParameter.float8(count)
    let hasOrdinals = false
    let hasClocks = false
    let hasFlags = false
    let hasTexts = false
    let hasDeviceTimes = false
    for (let index = 0; index < count; index++) {
      const row = rows[index] as number
      const series = owners[index] as Series
      const reading = this.#readings[row] as Reading
      deviceIds.int32(series.deviceId)
      metricIds.int32(series.metricId)
      eventTimes.time(reading.eventTimeUs)
      ingestTimes.time(this.#ingestTimes[row] as number)
      if (reading.value !== undefined) values.float64(reading.value)
      else {
        values.null()
        if (reading.text !== undefined) hasTexts = true
        else hasFlags = true
      }
      if (this.#ordinals[row] !== 0) hasOrdinals = true
      if (reading.clock !== undefined) hasClocks = true
      if (reading.deviceTimeUs !== undefined) hasDeviceTimes = true
    }
    const readings = rows.map((row) => this.#readings[row] as Reading)
    const parameters = [
      deviceIds.end(),
      metricIds.end(),
      eventTimes.end(),
      ingestTimes.end(),
      values.end(),
      hasClocks ? clocksOf(readings) : null,
      hasFlags ? flagsOf(readings) : null,
      hasTexts ? textArray(readings.map(({ text }) => text ?? null)) : null,
      hasDeviceTimes ? deviceTimesOf(readings) : null,
    ]
    if (withOrdinals) parameters.push(hasOrdinals ? this.#ordinalsOf(rows) : null)
    return parameters
  }

  #ordinalsOf(rows: readonly number[]): Buffer {
    const array = ArrayParameter.int2(rows.length)
    for (const row of rows) array.int16(this.#ordinals[row] as number)
    return array.end()
  }
}

function valueIn({ value, text, flag }: Reading): Value {
  return (value ?? text ?? flag) as Value
}

function instantOf(series: Series, eventTimeUs: number): Instant {
  if (series.firstTimeUs === eventTimeUs) return series.first
  series.others ??= new Map()
  let instant = series.others.get(eventTimeUs)
  if (instant === undefined) {
    instant = { value: undefined, more: undefined, count: 0 }
    series.others.set(eventTimeUs, instant)
  }
  return instant
}

function holds(instant: Instant, value: Value): boolean {
  return instant.count > 0 && (instant.value === value || (instant.more?.has(value) ?? false))
}

function put(instant: Instant, value: Value): void {
  if (instant.value === undefined) instant.value = value
  else {
    instant.more ??= new Set()
    instant.more.add(value)
  }
  instant.count++
}

function takeOut(instant: Instant, value: Value): void {
  if (instant.more?.delete(value) !== true) instant.value = undefined
  instant.count--
}

function clocksOf(readings: readonly Reading[]): Buffer {
  const array = ArrayParameter.int2(readings.length)
  for (const { clock } of readings) array.int16(clock ?? 0)
  return array.end()
}

function flagsOf(readings: readonly Reading[]): Buffer {
  const array = ArrayParameter.bool(readings.length)
  for (const { flag } of readings) {
    if (flag === undefined) array.null()
    else array.boolean(flag)
  }
  return array.end()
}

function deviceTimesOf(readings: readonly Reading[]): Buffer {
  const array = ArrayParameter.timestamptz(readings.length)
  for (const { deviceTimeUs } of readings) {
    if (deviceTimeUs === undefined) array.null()
    else array.time(deviceTimeUs)
  }
  return array.end()
}
