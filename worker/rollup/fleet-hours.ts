import type pg from 'pg'
import { type Handle, handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'

export interface FleetHoursOptions {
  readonly pool: pg.Pool
  readonly log: Log
  readonly everyMs?: number
}

/** Hours of one transaction: with 10,000 devices each reads as many rows, some 10 ms. */
const chunk = 50
/** What is left then is the next round's; the view computes it for itself meanwhile. */
const roundMs = 5000

/**
 * Computes the hours of whole fleets that changes of rollup_1h marked, once a minute: the current hour changes with every reading, and a chart
 * computes the few that are marked for itself. Several workers may do so: one at a time computes.
 */
export function startFleetHours({ pool, log, everyMs = 60_000 }: FleetHoursOptions): Handle {
  let closing = false
  let failing = false
  let running = Promise.resolve()

  const round = async () => {
    const startedAt = performance.now()
    let hours = chunk
    while (hours === chunk && !closing && performance.now() - startedAt < roundMs) {
      const { rows } = await pool.query<{ hours: number }>('select fleetbridge_fleet_rollup($1) as hours', [chunk])
      hours = rows[0]?.hours ?? 0
    }
  }
  const timer = setInterval(() => {
    running = running.then(round).then(
      () => {
        failing = false
      },
      (error: unknown) => {
        if (!failing)
          log.warn({ err: error }, 'hours of the fleet could not be computed; their marks stay, next try soon')
        failing = true
      },
    )
  }, everyMs)
  timer.unref()
  return handleOf(async () => {
    closing = true
    clearInterval(timer)
    await running
  })
}
