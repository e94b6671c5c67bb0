import type pg from 'pg'
import { type Handle, handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'
import { type Metrics, secondsBounds } from '#platform/metrics.ts'
import { type ComputeTools, computeSome, sealEpoch } from './compute.ts'

export interface RollupKeeperOptions {
  /** Of one connection: what it does is done one after the other. */
  readonly pool: pg.Pool
  readonly tools: ComputeTools
  readonly log: Log
  readonly metrics: Metrics
  /** Between two rounds, at least. */
  readonly everyMs?: number
}

export interface RollupKeeper extends Handle {
  /** A round now, also when it is too early. @returns false when another process is at it, or a batch of the epoch before is not done */
  round(): Promise<boolean>
}

const chunkAtFirst = 200
const largestChunk = 2000
/** A chunk is one transaction; it shall be over soon, since it keeps dead rows of the whole database from being cleaned. */
const longChunkMs = 1000
const shortChunkMs = 250
/** A round gives way after this; what is left is the next one's. */
const roundMs = 5000
/** Once nothing is left it rests so many times as long as all that took: a tenth of one core. While something is left it takes half of one. */
const restAfterPass = 9
const restInBacklog = 1
/** Values that Postgres cannot compute with, and a statement that took too long: what is wrong with one bucket, and not with the database. */
const badBucket = /^(22|57014)/
/** A batch of the epoch before is not done. */
const lockTimeout = '55P03'

/**
 * Keeps the rollups from what the batches marked. Several workers may do so: one at a time computes, and `rollup_round.next_at` bounds what all of
 * them take together.
 */
export function startRollupKeeper({ pool, tools, log, metrics, everyMs = 10_000 }: RollupKeeperOptions): RollupKeeper {
  const counters = registerMetrics(metrics)
  let behindSeconds = 0
  metrics.gauge(
    'fleetbridge_rollup_behind_seconds',
    'Age of the newest moment before which all stored readings are in the rollups',
    () => behindSeconds,
  )
  let chunk = chunkAtFirst
  /** Since marks of earlier epochs were last all done. */
  let passMs = 0
  let closing = false
  let running: Promise<unknown> = Promise.resolve()
  let failing = false

  const isDue = async (client: pg.ClientBase): Promise<boolean> => {
    const { rows } = await client.query<{ due: boolean; behind: number }>(
      `select next_at <= clock_timestamp() as due, coalesce((select extract(epoch from clock_timestamp() - max(processed_until))
        from rollup_state), 0)::float8 as behind from rollup_round`,
    )
    behindSeconds = rows[0]?.behind ?? 0
    return rows[0]?.due === true
  }

  const computeChunk = async (client: pg.ClientBase): Promise<boolean | undefined> => {
    const startedAt = performance.now()
    try {
      const done = await computeSome(client, tools, chunk)
      if (done === undefined) return undefined
      counters.marks.inc(done.marks)
      const ms = performance.now() - startedAt
      if (ms > longChunkMs) chunk = Math.max(1, chunk >> 1)
      else if (ms < shortChunkMs) chunk = Math.min(largestChunk, chunk * 2)
      return done.isMore
    } catch (error) {
      await client.query('rollback')
      if (codeOf(error) === lockTimeout) return undefined
      // A range was dropped meanwhile, or something is wrong with one of them: smaller steps find it.
      await Promise.all([tools.readings.refresh(), tools.tenMinutes.refresh(), tools.hours.refresh()])
      if (chunk === 1 && badBucket.test(codeOf(error))) await putLast(client, log, error)
      chunk = Math.max(1, chunk >> 3)
      throw error
    }
  }

  const round = async (isForced: boolean): Promise<boolean> => {
    const client = await pool.connect()
    let broken = true
    try {
      const startedAt = performance.now()
      const mayBegin = (isForced || (await isDue(client))) && (await beginEpoch(client, everyMs))
      if (!mayBegin) {
        broken = false
        return false
      }
      let isMore: boolean | undefined = true
      while (isMore && !closing && performance.now() - startedAt < roundMs) isMore = await computeChunk(client)
      const spentMs = performance.now() - startedAt
      passMs += spentMs
      if (isMore === true) await rest(client, spentMs * restInBacklog)
      else {
        await rest(client, Math.max(everyMs, passMs * restAfterPass))
        passMs = 0
      }
      counters.seconds.observe(spentMs / 1000)
      broken = false
      return isMore !== undefined
    } finally {
      client.release(broken)
    }
  }

  /** One at a time, also where somebody asks for one. */
  const next = (isForced: boolean): Promise<boolean> => {
    const done = running.then(() => round(isForced))
    running = done.catch(() => {})
    return done
  }
  let isTicking = false
  const tick = () => {
    if (closing || isTicking) return
    isTicking = true
    next(false)
      .finally(() => {
        isTicking = false
      })
      .then(
        () => {
          failing = false
        },
        (error: unknown) => {
          if (!failing) log.warn({ err: error }, 'rollups could not be computed; their marks stay, next try soon')
          failing = true
        },
      )
  }
  const timer = setInterval(tick, Math.min(everyMs, 1000))
  timer.unref()
  return {
    round: () => next(true),
    ...handleOf(async () => {
      closing = true
      clearInterval(timer)
      await running
    }),
  }
}

/**
 * Begins the next epoch, unless marks of earlier ones are left: then it is not time for new ones.
 * @returns false when another process is at it
 */
export async function beginEpoch(client: pg.ClientBase, everyMs: number): Promise<boolean> {
  await client.query('begin')
  try {
    const epoch = await sealEpoch(client)
    if (epoch === undefined) {
      await client.query('rollback')
      return false
    }
    // Only after the epoch before is sealed: so there is never more than one that is not.
    await client.query(
      `update rollup_round r set next_at = clock_timestamp() + make_interval(secs => $1),
        epoch = r.epoch + (not m.are_left)::int, begun_at = case when m.are_left then r.begun_at else clock_timestamp() end
        from (select exists (select from rollup_dirty where epoch < $2) as are_left) m`,
      [everyMs / 1000, epoch],
    )
    await client.query('commit')
    return true
  } catch (error) {
    await client.query('rollback')
    if (codeOf(error) === lockTimeout) return false
    throw error
  }
}

async function rest(client: pg.ClientBase, ms: number): Promise<void> {
  await client.query(
    'update rollup_round set next_at = greatest(next_at, clock_timestamp() + make_interval(secs => $1))',
    [ms / 1000],
  )
}

/** The oldest mark holds up all others: it gets a new place at the end. */
async function putLast(client: pg.ClientBase, log: Log, error: unknown): Promise<void> {
  const { rows } = await client.query(
    `with taken as (
        delete from rollup_dirty where id = (select id from rollup_dirty order by id limit 1)
        returning device_id, metric_id, bucket)
      insert into rollup_dirty (epoch, device_id, metric_id, bucket)
      select r.epoch, t.* from taken t, rollup_round r returning device_id, metric_id, bucket`,
  )
  log.error({ err: error, bucket: rows[0] }, 'a bucket of the rollups cannot be computed; it is tried again later')
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}

function registerMetrics(metrics: Metrics) {
  return {
    marks: metrics.counter('fleetbridge_rollup_marks_total', 'Marks of buckets that were computed again'),
    seconds: metrics.histogram('fleetbridge_rollup_round_seconds', 'Rounds of computing rollups', secondsBounds),
  }
}
