import { type Finding, fail, ok, warn } from './check.ts'

/** One range of `reading` by its time and what it takes on disk. */
export interface StoredRange {
  readonly fromMs: number
  readonly toMs: number
  readonly bytes: number
}

export interface Room {
  readonly ranges: readonly StoredRange[]
  readonly databaseBytes: number
  /** Free where the database lies; undefined where that cannot be seen from here. */
  readonly freeBytes: number | undefined
  /** How long readings are kept; undefined for ever. */
  readonly keptMs: number | undefined
  readonly now: number
}

const dayMs = 86_400_000
/** Growth of the last days says more than that of the year. */
const looksBackMs = 8 * dayMs
/** Less than this of history foretells nothing. */
const leastMs = 3_600_000
const warnDays = 30
const failDays = 3

/** Bytes of readings a day lately, today's share counted as far as it has gone; undefined where there is no history yet. */
export function bytesPerDay(ranges: readonly StoredRange[], now: number): number | undefined {
  let bytes = 0
  let spanMs = 0
  for (const range of ranges) {
    const end = Math.min(range.toMs, now)
    if (range.bytes === 0 || range.fromMs >= now || end < now - looksBackMs) continue
    bytes += range.bytes
    spanMs += end - range.fromMs
  }
  return spanMs < leastMs ? undefined : (bytes / spanMs) * dayMs
}

/** Whether the disk lasts: until the retention gives back as much as comes in, or for ever growing. */
export function forecast({ ranges, databaseBytes, freeBytes, keptMs, now }: Room): Finding {
  const daily = bytesPerDay(ranges, now)
  const size = `${text(databaseBytes)} in the database`
  const free =
    freeBytes === undefined ? "free space of the server's disk cannot be seen from here" : `${text(freeBytes)} free`
  if (daily === undefined) return ok(`${size}, ${free}; too little history for a forecast`)
  const pace = `${size}, ${free}, ${text(daily)} of readings a day`
  const readings = ranges.reduce((sum, { bytes }) => sum + bytes, 0)
  const full = keptMs === undefined ? undefined : (keptMs / dayMs) * daily
  const more = full === undefined ? undefined : Math.max(0, full - readings)
  const goal = full === undefined ? 'kept for ever' : `${text(full)} when the retention is reached`
  if (freeBytes === undefined) return ok(`${pace}, ${goal}`)
  if (more !== undefined && more <= freeBytes) return ok(`${pace}, ${goal}: that fits`)
  const days = Math.floor(freeBytes / daily)
  const seen = `${pace}, ${goal}: full in ${days} day(s)`
  if (days >= 365 && keptMs === undefined) return ok(seen)
  const advice = 'Make room, or keep less by BRIDGE_RETENTION_READING.'
  return days < failDays ? fail(seen, advice) : days < warnDays || keptMs !== undefined ? warn(seen, advice) : ok(seen)
}

function text(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB']
  let value = bytes
  let unit = 0
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000
    unit++
  }
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`
}
