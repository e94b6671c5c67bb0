import { Readable } from 'node:stream'
import pg from 'pg'
import type { Log } from '#platform/log.ts'
import { microTime } from './registry/read-telemetry.ts'
import { conflict, invalid } from './registry/refusal.ts'

export interface ExportFilter {
  readonly tenant: string
  readonly device?: string | undefined
  readonly prefix?: string | undefined
  readonly metric?: string | undefined
  readonly from: Date
  /** Exclusive. */
  readonly to: Date
  /** Ends after so many. Absent: it fails after ten million. */
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

interface Row {
  readonly time: string
  readonly device: string
  readonly metric: string
  readonly unit: string | null
  readonly value: number | null
  readonly text: string | null
  readonly flag: boolean | null
  readonly clock: number
  readonly ingest_time: string
}

const columns = ['time', 'device', 'metric', 'unit', 'value', 'text', 'flag', 'clock', 'ingest_time'] as const

/**
 * Readings as a stream of text, from a cursor of the server: no more is fetched than is taken, and memory is bounded whatever the number of rows. Each has a
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

  /** @throws BridgeError BRIDGE_USAGE when two are under way, or there is no such tenant */
  async open(filter: ExportFilter, format: ExportFormat): Promise<Readable> {
    if (filter.from >= filter.to) throw invalid('the range ends before it begins')
    if (this.#open.size >= maxAtOnce) throw conflict(`${maxAtOnce} exports are under way already; come back later`)
    const held = new Readable({ read() {} })
    this.#open.add(held) // its place, while the connection is made
    try {
      const client = await connected(this.#databaseUrl)
      let isBusy = false
      const pages = texts(client, filter, format)
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
      stream.once('error', (error) => this.#log.warn({ err: error }, 'an export of readings ended before its time'))
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
  filter: ExportFilter,
  format: ExportFormat,
): AsyncGenerator<string, undefined> {
  const { tenant, device, prefix, metric, from, to, limit } = filter
  const endMs = performance.now() + maxMs
  await client.query('BEGIN READ ONLY')
  await client.query(
    `DECLARE readings NO SCROLL CURSOR FOR
     SELECT ${microTime('r.event_time')} AS time, d.external_id AS device, m.name AS metric, m.unit, r.value, r.text, r.flag, r.clock,
       ${microTime('r.ingest_time')} AS ingest_time
     FROM reading r JOIN device d ON d.id = r.device_id JOIN metric m ON m.id = r.metric_id JOIN tenant t ON t.id = d.tenant_id
     WHERE t.name = $1 AND r.event_time >= $2 AND r.event_time < $3 AND ($4::text IS NULL OR d.external_id = $4)
       AND ($5::text IS NULL OR starts_with(d.external_id, $5)) AND ($6::text IS NULL OR m.name = $6)
     ${limit === undefined ? '' : `LIMIT ${limit}`}`,
    [tenant, from, to, device ?? null, prefix ?? null, metric ?? null],
  )
  if (format === 'csv') yield `${columns.join(',')}\n`
  for (let rows = 0; ; ) {
    const page = await client.query<Row>(`FETCH ${rowsAtOnce} FROM readings`)
    if (page.rows.length > 0) yield page.rows.map(format === 'csv' ? csvOf : jsonOf).join('')
    if (page.rows.length < rowsAtOnce) return undefined
    rows += page.rows.length
    // The answer has begun: only an end without its end says that rows are missing.
    if (rows >= maxRows && limit === undefined) throw new Error(`more than ${maxRows} rows in one export`)
    if (performance.now() > endMs) throw new Error('an export took longer than 30 min')
  }
}

function csvOf({ time, device, metric, unit, value, text, flag, clock, ingest_time }: Row): string {
  return `${time},${cell(device)},${cell(metric)},${cell(unit)},${value ?? ''},${cell(text)},${flag ?? ''},${clock},${ingest_time}\n`
}

function cell(text: string | null): string {
  if (text === null) return ''
  return /[",\r\n]/.test(text) || text === '' ? `"${text.replaceAll('"', '""')}"` : text
}

/** Without what is null. */
function jsonOf({ ingest_time, ...row }: Row): string {
  const members = Object.entries({ ...row, ingestTime: ingest_time }).filter(([, value]) => value !== null)
  return `${JSON.stringify(Object.fromEntries(members))}\n`
}
