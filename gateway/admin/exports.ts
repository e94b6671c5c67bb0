import { Readable } from 'node:stream'
import pg from 'pg'
import type { Log } from '#platform/log.ts'
import { conflict } from './registry/refusal.ts'

/** What is exported: a statement, and the names of its columns as CSV has them. NDJSON has them in camel case, without what is null. */
export interface ExportQuery {
  readonly sql: string
  readonly values: readonly unknown[]
  readonly columns: readonly string[]
  /** Ends after so many rows. Absent: it fails after ten million. */
  readonly limit?: number | undefined
}

export type ExportFormat = 'csv' | 'ndjson'

export const contentTypes: Record<ExportFormat, string> = {
  csv: 'text/csv; charset=utf-8; header=present',
  ndjson: 'application/x-ndjson',
}

const maxAtOnce = 2
const rowsAtOnce = 2000
const maxRows = 10_000_000
const maxMs = 1_800_000
/** Of one fetch. */
const statementMs = 60_000
/** Text that is ready and was not taken yet. */
const highWaterMark = 262_144

/**
 * Rows as a stream of text, from a cursor of the server: no more is fetched than is taken, and memory is bounded whatever the number of rows. Each has a
 * connection of its own, which ends with it; when whoever asked goes away, the query under way is cancelled.
 */
export class Exports {
  readonly #databaseUrl: string
  readonly #log: Log
  readonly #open = new Set<Readable>()

  constructor(databaseUrl: string, log: Log) {
    this.#databaseUrl = databaseUrl
    this.#log = log
  }

  /** @throws BridgeError BRIDGE_USAGE when two are under way */
  async open(query: ExportQuery, format: ExportFormat): Promise<Readable> {
    if (this.#open.size >= maxAtOnce) throw conflict(`${maxAtOnce} exports are under way already; come back later`)
    const held = new Readable({ read() {} })
    this.#open.add(held) // its place, while the connection is made
    try {
      const client = await connected(this.#databaseUrl)
      let isBusy = false
      const pages = texts(client, query, format)
      const stream = new Readable({
        highWaterMark,
        // Called when what was fetched is taken.
        read() {
          isBusy = true
          pages.next().then(
            ({ value, done }) => {
              isBusy = false
              this.push(done ? null : value)
            },
            (error: Error) => this.destroy(error),
          )
        },
        // At its end, and when whoever asked goes away in the middle of a fetch.
        destroy: (error, done) => {
          this.#open.delete(stream)
          void end(client, isBusy, this.#databaseUrl)
          done(error)
        },
      })
      this.#open.add(stream)
      stream.once('error', (error) => this.#log.warn({ err: error }, 'an export ended before its time'))
      return stream
    } finally {
      this.#open.delete(held)
    }
  }

  close(): void {
    for (const stream of this.#open) stream.destroy()
  }
}

async function connected(databaseUrl: string): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: databaseUrl,
    application_name: 'fleetbridge export',
    connectionTimeoutMillis: 5000,
    statement_timeout: statementMs,
    keepAlive: true,
  })
  client.on('error', () => undefined) // the fetch that is under way says it
  await client.connect()
  return client
}

/** A backend in the middle of a query does not see that nobody listens: it is told so. */
async function end(client: pg.Client, isBusy: boolean, databaseUrl: string): Promise<void> {
  const { processID } = client as unknown as { processID: number | null }
  await client.end().catch(() => undefined)
  if (!isBusy || processID === null) return
  const other = new pg.Client({ connectionString: databaseUrl, connectionTimeoutMillis: 5000 })
  other.on('error', () => undefined)
  await other
    .connect()
    .then(() => other.query('SELECT pg_terminate_backend($1)', [processID]))
    .catch(() => undefined)
  await other.end().catch(() => undefined)
}

async function* texts(
  client: pg.Client,
  { sql, values, columns, limit }: ExportQuery,
  format: ExportFormat,
): AsyncGenerator<string, undefined> {
  const endMs = performance.now() + maxMs
  const lineOf = format === 'csv' ? csvLine(columns) : jsonLine(columns)
  await client.query('BEGIN READ ONLY')
  await client.query(`DECLARE exported NO SCROLL CURSOR FOR ${sql}${limit === undefined ? '' : ` LIMIT ${limit}`}`, [
    ...values,
  ])
  if (format === 'csv') yield `${columns.join(',')}\n`
  for (let rows = 0; ; ) {
    const page = await client.query<unknown[]>({ text: `FETCH ${rowsAtOnce} FROM exported`, rowMode: 'array' })
    if (page.rows.length > 0) yield page.rows.map(lineOf).join('')
    if (page.rows.length < rowsAtOnce) return undefined
    rows += page.rows.length
    // The answer has begun: only an end without its end says that rows are missing.
    if (rows >= maxRows && limit === undefined) throw new Error(`more than ${maxRows} rows in one export`)
    if (performance.now() > endMs) throw new Error('an export took longer than 30 min')
  }
}

type LineOf = (row: readonly unknown[]) => string

function csvLine(columns: readonly string[]): LineOf {
  return (row) => `${columns.map((_, index) => cell(row[index])).join(',')}\n`
}

function cell(value: unknown): string {
  if (value === null) return ''
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  return /[",\r\n]/.test(text) || text === '' ? `"${text.replaceAll('"', '""')}"` : text
}

function jsonLine(columns: readonly string[]): LineOf {
  const names = columns.map((column) => column.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()))
  return (row) => `${JSON.stringify(Object.fromEntries(names.map((name, index) => [name, row[index] ?? undefined])))}\n`
}
