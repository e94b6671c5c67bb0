import type pg from 'pg'
import { type Handle, handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'

const intervalMs = 3_600_000
/** Of one statement: it holds locks, and makes dead rows. */
const rowsAtOnce = 1000

/** Deletes dead letters that are older than they are kept, now and every hour, so that the table has an end. */
export function startOldDeadLetters(pool: pg.Pool, keepMs: number | undefined, log: Log): Handle {
  if (keepMs === undefined) return handleOf(() => Promise.resolve())
  let closing = false
  let running: Promise<void> = Promise.resolve()
  const clean = () => {
    running = running
      .then(() => deleteOlder(pool, keepMs, () => closing))
      .then(
        (count) =>
          void (count > 0 && log.info({ deadLetters: count }, 'dead letters past their retention were deleted')),
        (error: unknown) => log.warn({ err: error }, 'old dead letters could not be deleted; next try in an hour'),
      )
  }
  clean()
  const timer = setInterval(clean, intervalMs)
  timer.unref()
  return handleOf(async () => {
    closing = true
    clearInterval(timer)
    await running
  })
}

async function deleteOlder(pool: pg.Pool, keepMs: number, mustStop: () => boolean): Promise<number> {
  let count = 0
  while (!mustStop()) {
    const { rowCount } = await pool.query(
      `delete from dead_letter where id in (
        select id from dead_letter where ingest_time < to_timestamp($1::float8 / 1000) order by ingest_time limit $2 for update skip locked)`,
      [Date.now() - keepMs, rowsAtOnce],
    )
    count += rowCount ?? 0
    if ((rowCount ?? 0) < rowsAtOnce) break
  }
  return count
}
