import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { PassThrough, type Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { type CsvError, parse } from 'csv-parse'
import { BridgeError } from '#platform/errors.ts'

/** A row as it stands in the file: its cells by column, or why it is none. */
export interface FileRow {
  readonly line: number
  readonly cells: ReadonlyMap<string, unknown> | undefined
  readonly fault: string | undefined
}

export interface RowSource {
  readonly columns: readonly string[]
  readonly rows: AsyncGenerator<FileRow[]>
  /** Bytes of the file that were read, and its size: what is left to do. */
  readonly progress: () => { readonly bytes: number; readonly of: number }
  readonly close: () => void
}

export type FileFormat = 'csv' | 'ndjson'

const maxRecordBytes = 262_144
const rowsAtOnce = 512
/** Rows of an NDJSON file that say which names it has. */
const namesFrom = 200

/** By its name: `.csv`, `.tsv`, `.ndjson`, `.jsonl`, each with `.gz` or without. @throws BridgeError BRIDGE_USAGE */
export function formatOf(file: string): FileFormat {
  const name = file.toLowerCase().replace(/\.gz$/, '')
  if (/\.(csv|tsv|txt)$/.test(name)) return 'csv'
  if (/\.(ndjson|jsonl)$/.test(name)) return 'ndjson'
  throw new BridgeError(
    'BRIDGE_USAGE',
    `${file} ends in none of .csv, .tsv, .ndjson, .jsonl (or with .gz): say --format csv or ndjson`,
  )
}

/**
 * Opens a file from its beginning. Memory is bounded by the longest row, 256 KiB.
 * @param delimiter of CSV; absent: what the first line has most of
 * @throws BridgeError BRIDGE_USAGE when it cannot be read or has no columns
 */
export async function openRows(file: string, format: FileFormat, delimiter?: string): Promise<RowSource> {
  let size: number
  try {
    const facts = await stat(file)
    if (!facts.isFile()) throw new Error('it is no file')
    size = facts.size
  } catch (error) {
    throw unreadable(file, error)
  }
  const raw = createReadStream(file, { highWaterMark: 262_144 })
  let bytes = 0
  raw.on('data', (chunk) => (bytes += chunk.length))
  const text: Readable = /\.gz$/i.test(file) ? raw.pipe(createGunzip()) : raw.pipe(new PassThrough())
  raw.on('error', (error) => text.destroy(error))
  const close = () => {
    raw.destroy()
    text.destroy()
  }
  try {
    const opened = format === 'csv' ? await openCsv(text, delimiter) : await openNdjson(text)
    return { ...opened, rows: told(file, opened.rows), progress: () => ({ bytes, of: size }), close }
  } catch (error) {
    close()
    throw unreadable(file, error)
  }
}

async function* told(file: string, rows: AsyncGenerator<FileRow[]>): AsyncGenerator<FileRow[]> {
  try {
    yield* rows
  } catch (error) {
    throw unreadable(file, error)
  }
}

function unreadable(file: string, error: unknown): BridgeError {
  if (error instanceof BridgeError) return error
  return new BridgeError('BRIDGE_USAGE', `${file} cannot be read: ${(error as Error).message}`, { cause: error })
}

type Opened = Pick<RowSource, 'columns' | 'rows'>

async function openCsv(text: Readable, given: string | undefined): Promise<Opened> {
  const first = await headOf(text)
  const damaged: (CsvError | undefined)[] = []
  const parser = parse({
    bom: true,
    info: true,
    delimiter: given ?? delimiterOf(first),
    relax_column_count: true,
    // Else one stray quote takes all rows up to the next one with it.
    relax_quotes: true,
    skip_empty_lines: true,
    max_record_size: maxRecordBytes,
    skip_records_with_error: true,
    on_skip: (error) => void damaged.push(error),
  })
  text.on('error', (error) => parser.destroy(error))
  const records = text.pipe(parser)[Symbol.asyncIterator]() as AsyncIterator<{
    record: string[]
    info: { lines: number }
  }>
  const { value, done } = await records.next()
  if (done) throw new BridgeError('BRIDGE_USAGE', 'it has no line with the names of its columns')
  const columns = (value.record as string[]).map((name) => name.trim())
  return { columns, rows: csvRows(records, columns, damaged) }
}

async function* csvRows(
  records: AsyncIterator<{ record: string[]; info: { lines: number } }>,
  columns: readonly string[],
  damaged: (CsvError | undefined)[],
): AsyncGenerator<FileRow[]> {
  let rows: FileRow[] = []
  const waiting: FileRow[] = []
  let lastLine = 1
  for (;;) {
    const { value, done } = await records.next()
    // The parser is ahead by as much as it likes. What it skipped is told in its place: an import that goes on counts rows.
    for (const error of damaged.splice(0)) waiting.push(damagedRow(error, lastLine))
    while (waiting[0] !== undefined && (done || waiting[0].line < value.info.lines))
      rows.push(waiting.shift() as FileRow)
    if (done) break
    const { record, info } = value
    lastLine = info.lines
    const fault =
      record.length > columns.length ? `has ${record.length} cells, and the first line ${columns.length}` : undefined
    const cells = new Map<string, unknown>()
    for (let at = 0; at < record.length && at < columns.length; at++)
      cells.set(columns[at] as string, (record[at] as string).trim())
    rows.push({ line: info.lines, cells, fault })
    if (rows.length >= rowsAtOnce) {
      yield rows
      rows = []
    }
  }
  if (rows.length > 0) yield rows
}

function damagedRow(error: CsvError | undefined, lastLine: number): FileRow {
  const line = Number((error as { lines?: number } | undefined)?.lines ?? lastLine + 1)
  // From here on the parser does not find the beginning of a line again.
  const fault =
    error?.code === 'CSV_MAX_RECORD_SIZE'
      ? `a quote is not closed, or the row has more than ${maxRecordBytes} bytes; rows after it may be lost with it`
      : `is no CSV: ${error?.message ?? 'it cannot be read'}`
  return { line, cells: undefined, fault }
}

/** The first bytes, which stay in the stream. */
async function headOf(text: Readable): Promise<string> {
  for (;;) {
    const chunk = text.read() as Buffer | null
    if (chunk !== null) {
      text.unshift(chunk)
      return chunk.subarray(0, 65_536).toString()
    }
    if (text.readableEnded || text.destroyed) return ''
    await new Promise<void>((resolve, reject) => {
      text.once('readable', resolve).once('end', resolve).once('error', reject)
    })
  }
}

function delimiterOf(head: string): string {
  const line = head.split(/\r?\n/, 1)[0] ?? ''
  const count = (character: string) => line.split(character).length
  return [',', ';', '\t', '|'].reduce((best, one) => (count(one) > count(best) ? one : best))
}

async function openNdjson(text: Readable): Promise<Opened> {
  const lines = ndjsonRows(text)
  const head: FileRow[] = []
  const columns = new Set<string>()
  let ended = false
  while (head.length < namesFrom && !ended) {
    const { value, done } = await lines.next()
    if (done) ended = true
    else head.push(...value)
  }
  for (const { cells } of head) for (const name of cells?.keys() ?? []) if (columns.size < 1000) columns.add(name)
  if (columns.size === 0) throw new BridgeError('BRIDGE_USAGE', 'none of its first lines is a JSON object')
  return {
    columns: [...columns],
    rows: (async function* () {
      yield head
      yield* lines
    })(),
  }
}

async function* ndjsonRows(text: Readable): AsyncGenerator<FileRow[]> {
  const decoder = new TextDecoder()
  let rest = ''
  let line = 0
  let skipping = false
  let rows: FileRow[] = []
  const take = (piece: string) => {
    line++
    if (skipping) {
      skipping = false
      rows.push({ line, cells: undefined, fault: `has more than ${maxRecordBytes} bytes` })
    } else if (piece.trim() !== '') rows.push(parsedLine(piece, line))
  }
  for await (const chunk of text) {
    const pieces = (rest + decoder.decode(chunk as Buffer, { stream: true })).split('\n')
    rest = pieces.pop() ?? ''
    for (const piece of pieces) {
      take(piece)
      if (rows.length < rowsAtOnce) continue
      yield rows
      rows = []
    }
    if (rest.length > maxRecordBytes) {
      skipping = true
      rest = ''
    }
  }
  if (rest !== '' || skipping) take(rest)
  if (rows.length > 0) yield rows
}

function parsedLine(text: string, line: number): FileRow {
  if (text.length > maxRecordBytes) return { line, cells: undefined, fault: `has more than ${maxRecordBytes} bytes` }
  let parsed: unknown
  try {
    parsed = JSON.parse(text.charCodeAt(0) === 0xfeff ? text.slice(1) : text)
  } catch {
    return { line, cells: undefined, fault: 'is no JSON' }
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    return { line, cells: undefined, fault: 'is no JSON object' }
  return { line, cells: new Map(Object.entries(parsed)), fault: undefined }
}
