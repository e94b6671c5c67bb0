import { randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import pg from 'pg'
import { silentLog } from '#platform/log.ts'
import { createMetrics, type Metrics } from '#platform/metrics.ts'
import type { DeadLetter } from '#schema/dead-letter.ts'
import type { Reading, TelemetryEvent } from '#schema/telemetry-event.ts'
import { migratedDatabase } from '#test/servers/fresh.ts'
import { type Store, type StoreOptions, startStore } from './store.ts'
import type { StoreOutcome, StreamRecord, StreamSlice } from './stream-slice.ts'

/** For tests of the store: a migrated database of its own, with a connection to look into it. */
export interface StoreDatabase extends AsyncDisposable {
  readonly url: string
  readonly sql: pg.Client
  open(options?: {
    retention?: string
    url?: string
    metrics?: Metrics
    webhookKinds?: readonly string[]
    rollups?: StoreOptions['rollups']
  }): Promise<Store>
  /** Resolves when everything that is stored by now is in the rollups. */
  rolledUp(): Promise<void>
  /** Rows as plain objects. */
  rows<Row = Record<string, unknown>>(text: string, values?: unknown[]): Promise<Row[]>
}

export async function storeDatabase(): Promise<StoreDatabase> {
  await using opened = new AsyncDisposableStack()
  const { url } = opened.use(await migratedDatabase())
  const sql = new pg.Client({ connectionString: url })
  sql.on('error', () => {})
  await sql.connect()
  opened.defer(() => sql.end())
  const resources = opened.move()
  return {
    url,
    sql,
    open: ({
      retention = '90d',
      url: through = url,
      metrics = createMetrics('test'),
      webhookKinds = [],
      rollups,
    } = {}) =>
      startStore({ databaseUrl: through, poolSize: 3, retention, webhookKinds, rollups, log: silentLog, metrics }),
    async rolledUp() {
      const { rows } = await sql.query('select clock_timestamp()::text as now')
      const isDone = async () =>
        (await sql.query('select min(processed_until) >= $1 as done from rollup_state', [rows[0].now])).rows[0].done
      await eventually(isDone, true)
    },
    async rows<Row>(text: string, values?: unknown[]) {
      const result = await sql.query(text, values)
      return result.rows.map((row) => ({ ...row })) as Row[]
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  }
}

/** This midnight in UTC plus an hour or so, so that tests may add minutes without leaving the day. */
export const baseUs = Math.floor(Date.now() / 86_400_000) * 86_400_000_000 + 3_600_000_000

export function eventOf(
  device: string,
  readings: readonly (Partial<Reading> & { metric: string })[],
  more: Partial<TelemetryEvent> = {},
): TelemetryEvent {
  return {
    v: 1,
    id: randomUUID(),
    tenant: 'default',
    device,
    source: 'mqtt',
    codec: 'own',
    ingestTimeUs: baseUs,
    readings: readings.map((reading) => ({ eventTimeUs: baseUs, ...reading })),
    ...more,
  }
}

export function deadLetterOf(more: Partial<DeadLetter> = {}): DeadLetter {
  return {
    id: randomUUID(),
    tenant: 'default',
    device: 'pump-1',
    source: 'mqtt',
    topic: 'devices/pump-1/telemetry',
    stage: 'decode',
    code: 'malformed',
    message: 'not JSON',
    acknowledged: true,
    ingestTimeUs: baseUs,
    payload: Buffer.from('{"a":'),
    ...more,
  }
}

/** A partition of an event log, as its reader sees it: each write goes on where the last one ended. */
export class TestLog {
  readonly stream: string
  readonly partition: number
  nextOffset: number

  constructor(stream = 'test', partition = 0, nextOffset = 0) {
    this.stream = stream
    this.partition = partition
    this.nextOffset = nextOffset
  }

  slice(items: readonly (TelemetryEvent | DeadLetter)[]): StreamSlice {
    const { stream, partition, nextOffset: fromOffset } = this
    const records = items.map((item, index): StreamRecord => {
      const offset = fromOffset + index
      return 'readings' in item ? { offset, event: item } : { offset, deadLetter: item }
    })
    return { stream, partition, fromOffset, nextOffset: fromOffset + items.length, records }
  }

  async write(store: Store, ...items: readonly (TelemetryEvent | DeadLetter)[]): Promise<StoreOutcome> {
    const slice = this.slice(items)
    const outcome = await store.write([slice])
    this.nextOffset = slice.nextOffset
    return outcome
  }
}

/** Asks until the answer is the wanted one; fails after five seconds with the last answer. */
export async function eventually<Answer>(ask: () => Promise<Answer>, wanted: Answer): Promise<void> {
  const deadline = performance.now() + 5000
  for (;;) {
    const answer = await ask()
    if (isDeepStrictEqual(answer, wanted)) return
    if (performance.now() > deadline) throw new Error(`still ${JSON.stringify(answer)}, not ${JSON.stringify(wanted)}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** A generator of numbers in [0, 1) that a seed repeats (mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
