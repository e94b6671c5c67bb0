import pg from 'pg'
import { type Handle, handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'
import type { KeptFor } from './old-ranges.ts'
import { retentionTask, runRetention } from './retention.ts'

export interface DailyRetentionOptions {
  readonly databaseUrl: string
  readonly kept: KeptFor
  readonly log: Log
  /** Between two looks at whether it is time. */
  readonly everyMs?: number
}

/**
 * Runs the retention once a day, by the database's clock and over all workers: one that was missed is made up at the next look. It has a
 * connection only while it looks.
 */
export function startDailyRetention({ databaseUrl, kept, log, everyMs = 600_000 }: DailyRetentionOptions): Handle {
  let closing = false
  let running: Promise<void> = Promise.resolve()
  const look = () => {
    running = running.then(async () => {
      if (closing) return
      try {
        await runWhenDue(databaseUrl, kept, log, () => closing)
      } catch (error) {
        log.warn({ err: error }, 'what is past its retention could not be taken away; next try soon')
      }
    })
  }
  look()
  const timer = setInterval(look, everyMs)
  timer.unref()
  return handleOf(async () => {
    closing = true
    clearInterval(timer)
    await running
  })
}

async function runWhenDue(databaseUrl: string, kept: KeptFor, log: Log, mustStop: () => boolean): Promise<void> {
  const client = new pg.Client({
    connectionString: databaseUrl,
    application_name: 'fleetbridge retention',
    connectionTimeoutMillis: 5000,
  })
  client.on('error', () => {})
  await client.connect()
  try {
    const { rows } = await client.query(
      `select from upkeep where task = $1 and finished_at > clock_timestamp() - interval '1 day'`,
      [retentionTask],
    )
    if (rows.length > 0) return
    const report = await runRetention({ client, kept, log, mustStop })
    if (report === undefined) return
    const { ranges, tenants } = report
    const readings = tenants.reduce((total, one) => total + one.readings, 0)
    log.info({ ranges: ranges.length, tenantReadings: readings }, 'what is past its retention was taken away')
  } finally {
    await client.end()
  }
}
