import type { FileRow, RowSource } from './row-source.ts'
import { type ConvertOptions, convert } from './to-reading.ts'

export const dryRunRows = 1000
const shownRows = 5
const shownReasons = 10

export interface DryRun {
  /** That were looked at. */
  readonly rows: number
  /** Whether the file ends there. */
  readonly whole: boolean
  readonly readings: number
  readonly empty: number
  readonly rejected: number
  readonly reasons: readonly { readonly reason: string; readonly rows: number; readonly line: number }[]
  readonly devices: number
  readonly from: string | null
  readonly to: string | null
  readonly preview: readonly {
    readonly line: number
    readonly device: string
    readonly time: string
    readonly values: unknown
  }[]
}

/** What would become of the first rows; nothing is sent. */
export async function dryRun(source: RowSource, options: ConvertOptions): Promise<DryRun> {
  const devices = new Set<string>()
  const reasons = new Map<string, { rows: number; line: number }>()
  const preview: DryRun['preview'][number][] = []
  let [rows, readings, empty, rejected] = [0, 0, 0, 0]
  let [firstUs, lastUs] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
  let whole = true
  const look = (row: FileRow) => {
    const converted = convert(row, options)
    if (converted.kind === 'empty') empty++
    else if (converted.kind === 'rejected') {
      rejected++
      const known = reasons.get(converted.reason)
      if (known !== undefined) known.rows++
      else if (reasons.size < 1000) reasons.set(converted.reason, { rows: 1, line: converted.line })
    } else {
      readings += converted.readings
      devices.add(converted.device)
      firstUs = Math.min(firstUs, converted.timeUs)
      lastUs = Math.max(lastUs, converted.timeUs)
      if (preview.length < shownRows)
        preview.push({
          line: converted.line,
          device: converted.device,
          time: isoOf(converted.timeUs),
          values: (JSON.parse(converted.json) as { values: unknown }).values,
        })
    }
  }
  for await (const some of source.rows) {
    for (const row of some) {
      if (rows >= dryRunRows) {
        whole = false
        break
      }
      rows++
      look(row)
    }
    if (!whole) break
  }
  source.close()
  return {
    rows,
    whole,
    readings,
    empty,
    rejected,
    reasons: [...reasons]
      .map(([reason, { rows, line }]) => ({ reason, rows, line }))
      .sort((one, other) => other.rows - one.rows)
      .slice(0, shownReasons),
    devices: devices.size,
    from: readings === 0 ? null : isoOf(firstUs),
    to: readings === 0 ? null : isoOf(lastUs),
    preview,
  }
}

const isoOf = (timeUs: number) => new Date(timeUs / 1000).toISOString()
