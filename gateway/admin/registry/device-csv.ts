import type { Readable } from 'node:stream'
import { type CsvError, parse } from 'csv-parse'
import { faultOfAliases } from './aliases.ts'
import { brokenRule, brokenText } from './names.ts'
import { invalid } from './refusal.ts'

export interface ImportRow {
  readonly line: number
  readonly device: string
  readonly type: string | null
  readonly site: string | null
  readonly tenant: string
  /** Other names of a new device. */
  readonly aliases: readonly string[]
}

export interface RejectedLine {
  readonly line: number
  readonly device: string
  readonly reason: string
}

export interface DeviceCsv {
  /** Names of columns that mean nothing here. */
  readonly ignored: readonly string[]
  readonly namesTenants: boolean
  /** Good rows in batches; each batch comes with the bad lines that stood among them. */
  readonly batches: AsyncGenerator<{ rows: ImportRow[]; rejected: RejectedLine[] }>
}

const columns = ['device', 'type', 'site', 'tenant', 'aliases'] as const
const batchRows = 1000
/** Bounds the memory for ids that were seen; a fleet beyond it comes in several files. */
const maxRows = 1_000_000
const maxRecordBytes = 16_384

/**
 * Reads a CSV (RFC 4180) whose header names the columns device, type, site, tenant, aliases (separated by `;`) in any order; all but device may be absent. A bad line is
 * reported and the next one read.
 * @throws BridgeError BRIDGE_USAGE when there is no header with `device`
 */
export async function readDeviceCsv(input: Readable, tenant: string): Promise<DeviceCsv> {
  const damaged: (CsvError | undefined)[] = []
  const parser = parse({
    bom: true,
    info: true,
    raw: true, // a record that is none may hold several lines: all are named
    relax_column_count: true,
    skip_empty_lines: true,
    max_record_size: maxRecordBytes,
    skip_records_with_error: true,
    on_skip: (error) => void damaged.push(error),
  })
  input.on('error', (error) => parser.destroy(error))
  const records = input.pipe(parser)[Symbol.asyncIterator]() as AsyncIterator<{
    record: string[]
    info: { lines: number }
  }>
  const { value: header, done } = await records.next()
  const names = done ? [] : (header.record as string[]).map((name) => name.trim().toLowerCase())
  const at = new Map(names.map((name, index) => [name, index]))
  if (!at.has('device')) {
    input.destroy()
    throw invalid(
      'the first line must name the columns, device among them: device,type,site,tenant,aliases (all but device may be left out)',
    )
  }
  const known: ReadonlySet<string> = new Set(columns)
  return {
    ignored: names.filter((name) => !known.has(name)),
    namesTenants: at.has('tenant'),
    batches: batchesOf(records, at, tenant, damaged),
  }
}

async function* batchesOf(
  records: AsyncIterator<{ record: string[]; info: { lines: number } }>,
  at: ReadonlyMap<string, number>,
  tenant: string,
  damaged: (CsvError | undefined)[],
): DeviceCsv['batches'] {
  const seen = new Set<string>()
  let rows: ImportRow[] = []
  let rejected: RejectedLine[] = []
  let lastLine = 1
  const width = Math.max(...at.values()) + 1
  for (;;) {
    const { value, done } = await records.next()
    // The parser is ahead: where it lost its way is known when the rows before have come.
    const lost = damaged.findIndex((error) => error?.code === 'CSV_MAX_RECORD_SIZE')
    rejected.push(
      ...damaged.splice(0, done || lost < 0 ? damaged.length : lost).map((error) => damagedLine(error, lastLine)),
    )
    if (done) break
    lastLine = value.info.lines
    const { record, info } = value
    const cell = (name: string) => record[at.get(name) ?? -1]?.trim() ?? ''
    const row: ImportRow = {
      line: info.lines,
      device: cell('device'),
      type: cell('type') || null,
      site: cell('site') || null,
      tenant: cell('tenant') || tenant,
      aliases: aliasesIn(cell('aliases')),
    }
    const key = `${row.tenant}/${row.device}`
    const reason = record.length > width ? `has ${record.length} cells, and the header ${width}` : faultOf(row)
    if (reason !== undefined) rejected.push({ line: row.line, device: row.device.slice(0, 140), reason })
    else if (seen.has(key)) rejected.push({ line: row.line, device: row.device, reason: 'stands in this file twice' })
    else if (row.aliases.some((alias) => seen.has(`${row.tenant}/${alias}`)))
      rejected.push({ line: row.line, device: row.device, reason: 'has an alias that stands in this file already' })
    else {
      seen.add(key)
      for (const alias of row.aliases) seen.add(`${row.tenant}/${alias}`)
      rows.push(row)
    }
    if (seen.size > maxRows)
      throw invalid(`a file may name ${maxRows} devices; split it. What was read until here is imported.`)
    if (rows.length + rejected.length < batchRows) continue
    yield { rows, rejected }
    rows = []
    rejected = []
  }
  if (rows.length + rejected.length > 0) yield { rows, rejected }
}

function aliasesIn(cell: string): string[] {
  if (cell === '') return []
  const names = cell.split(';').map((name) => name.trim())
  return [...new Set(names.filter((name) => name !== ''))]
}

function faultOf({ device, type, site, tenant, aliases }: ImportRow): string | undefined {
  if (device === '') return 'names no device'
  const rule = brokenRule(device)
  if (rule !== undefined) return `the device id ${rule}`
  if (!/^[a-z0-9-]{1,63}$/.test(tenant)) return 'the tenant is not 1 to 63 of a-z, 0-9 and -'
  for (const [name, text] of [
    ['type', type],
    ['site', site],
  ] as const) {
    const broken = text === null ? undefined : brokenText(text)
    if (broken !== undefined) return `the ${name} ${broken}`
  }
  const fault = faultOfAliases(device, aliases)
  return fault === undefined ? undefined : `cannot be: ${fault}`
}

function damagedLine(error: CsvError | undefined, lastLine: number): RejectedLine {
  // From here on the parser does not find the beginning of a line again.
  if (error?.code === 'CSV_MAX_RECORD_SIZE')
    return {
      line: lastLine + 1,
      device: '',
      reason: `and all that follow are not read: a quote is not closed, or a line has more than ${maxRecordBytes} bytes. Mend it and import again`,
    }
  const { lines = lastLine + 1, raw = '' } = (error ?? {}) as { lines?: number; raw?: string }
  const first = lines - (raw.trimEnd().match(/\n/g)?.length ?? 0)
  const which = first === lines ? 'is' : `and those until line ${lines}, which a quote holds together, are`
  return { line: first, device: '', reason: `${which} no CSV: ${error?.message ?? 'it cannot be read'}` }
}
