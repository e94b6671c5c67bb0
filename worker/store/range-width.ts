/** Width of a range of partitions; boundaries are midnights in UTC, so no change of clocks ever moves them. */
export type RangeWidth = 'day' | 'week' | 'month'

/** From inclusive, to exclusive, in milliseconds since the epoch. */
export interface TimeRange {
  readonly fromMs: number
  readonly toMs: number
}

const dayMs = 86_400_000

/**
 * @param retention of config: `90d`, `forever`
 * @returns undefined for ever
 */
export function retentionMs(retention: string): number | undefined {
  if (retention === 'forever') return undefined
  const days = /^([1-9]\d{0,4})d$/.exec(retention)?.[1]
  if (days === undefined) throw new TypeError(`a retention is "Nd" or "forever", not "${retention}"`)
  return Number(days) * dayMs
}

/** Wide enough that a table has under 1,000 partitions, or a query without a time would run out of locks. */
export function rangeWidth(retention: number | undefined): RangeWidth {
  if (retention === undefined || retention > 730 * dayMs) return 'month'
  return retention > 90 * dayMs ? 'week' : 'day'
}

/** The range of this width that holds an instant. Weeks begin on Monday. */
export function rangeAt(width: RangeWidth, ms: number): TimeRange {
  const day = Math.floor(ms / dayMs)
  if (width === 'day') return { fromMs: day * dayMs, toMs: (day + 1) * dayMs }
  if (width === 'week') {
    // 1970-01-01 was a Thursday.
    const monday = Math.floor((day + 3) / 7) * 7 - 3
    return { fromMs: monday * dayMs, toMs: (monday + 7) * dayMs }
  }
  const date = new Date(ms)
  const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()]
  return { fromMs: Date.UTC(year, month), toMs: Date.UTC(year, month + 1) }
}
