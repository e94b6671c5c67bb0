import type { StoreDatabase } from '../store/store.fixture.ts'

export interface RollupRow {
  readonly key: string
  readonly count: number
  readonly min: number | null
  readonly max: number | null
  readonly sum: number | null
  readonly last_us: string
  readonly last_value: number | null
  readonly last_text: string | null
  readonly last_flag: boolean | null
}

interface ReadingRow {
  readonly series: string
  readonly us: string
  readonly value: number | null
  readonly text: string | null
  readonly flag: boolean | null
}

const micros = (column: string) => `(extract(epoch from ${column}) * 1000000)::bigint::text`

/** Rows of a rollup as they are, in the order of their keys (device, metric, first instant). */
export async function storedRollup(database: StoreDatabase, table: 'rollup_10m' | 'rollup_1h'): Promise<RollupRow[]> {
  const rows = await database.rows<RollupRow>(
    `select device_id || ' ' || metric_id || ' ' || ${micros('bucket')} as key, count, min, max, sum,
       ${micros('last_time')} as last_us, last_value, last_text, last_flag from ${table}`,
  )
  return sorted(rows)
}

/** The same by arithmetic of our own from every row of `reading`. */
export async function computedRollups(
  database: StoreDatabase,
): Promise<{ tenMinutes: RollupRow[]; hours: RollupRow[] }> {
  const readings = await database.rows<ReadingRow>(
    `select device_id || ' ' || metric_id as series, ${micros('event_time')} as us, value, text, flag
       from reading order by device_id, metric_id, event_time, ordinal`,
  )
  const tenMinutes = new Map<string, { series: string; us: number; rows: ReadingRow[] }>()
  for (const row of readings) {
    const us = floor(Number(row.us), 600e6)
    const key = `${row.series} ${us}`
    const bucket = tenMinutes.get(key)
    if (bucket === undefined) tenMinutes.set(key, { series: row.series, us, rows: [row] })
    else bucket.rows.push(row)
  }
  const computed = [...tenMinutes].map(([key, { series, us, rows }]) => ({ series, us, row: rollupOf(key, rows) }))
  const hours = Map.groupBy(computed, ({ series, us }) => `${series} ${floor(us, 3600e6)}`)
  return {
    tenMinutes: sorted(computed.map(({ row }) => row)),
    hours: sorted(
      [...hours].map(([key, parts]) =>
        hourOf(
          key,
          parts.map(({ row }) => row),
        ),
      ),
    ),
  }
}

function rollupOf(key: string, rows: readonly ReadingRow[]): RollupRow {
  const numbers = rows.flatMap(({ value }) => (value === null ? [] : [value]))
  const last = rows.at(-1) as ReadingRow
  return {
    key,
    count: numbers.length === 0 ? rows.length : numbers.length,
    min: numbers.length === 0 ? null : Math.min(...numbers),
    max: numbers.length === 0 ? null : Math.max(...numbers),
    sum: sumOf(numbers),
    last_us: last.us,
    last_value: last.value,
    last_text: last.text,
    last_flag: last.flag,
  }
}

function hourOf(key: string, parts: readonly RollupRow[]): RollupRow {
  const numeric = parts.filter(({ max }) => max !== null)
  const counted = numeric.length === 0 ? parts : numeric
  const last = parts.at(-1) as RollupRow
  return {
    ...last,
    key,
    count: counted.reduce((total, { count }) => total + count, 0),
    min: numeric.length === 0 ? null : Math.min(...numeric.map(({ min }) => min as number)),
    max: numeric.length === 0 ? null : Math.max(...numeric.map(({ max }) => max as number)),
    sum: numeric.some(({ sum }) => sum === null) ? null : sumOf(numeric.map(({ sum }) => sum as number)),
  }
}

/** From left to right, as the readings come; the last bit depends on it. */
function sumOf(numbers: readonly number[]): number | null {
  if (numbers.length === 0 || numbers.some((value) => Math.abs(value) >= 1e290)) return null
  return numbers.reduce((total, value) => total + value)
}

function sorted(rows: readonly RollupRow[]): RollupRow[] {
  return [...rows].sort((a, b) => (a.key < b.key ? -1 : 1))
}

function floor(us: number, width: number): number {
  return Math.floor(us / width) * width
}
