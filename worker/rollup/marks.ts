import type pg from 'pg'
import { advisoryLocks } from '#platform/advisory-locks.ts'
import { int4Array, timestamptzArray } from '../store/array-parameter.ts'
import type { ReadingPlan } from '../store/reading-plan.ts'

/** The narrower rollup; the hours are computed from it. */
export const bucketUs = 600_000_000

/** Of one series; past this its buckets are marked again, which is never wrong. */
const bucketsRemembered = 16
const maxRemembered = 200_000

/** What a transaction knows of the epoch in which it writes. */
export interface EpochRead {
  /** Of its marks. */
  readonly epoch: number
  /** It holds this epoch until it ends: marks of it wait so long, and may be left out where they are there. */
  readonly isHeld: boolean
}

/** Buckets that a transaction has to mark. */
export interface NewMarks {
  readonly epoch: number
  readonly deviceIds: number[]
  readonly metricIds: number[]
  readonly buckets: number[]
}

/**
 * Marks buckets in `rollup_dirty`, in the transaction of their rows. Buckets repeat from batch to batch, so it remembers what was marked, and this
 * must not lose a mark: who computes a bucket takes its mark away and reads the rows that are committed, and a row that is committed later, with
 * no mark of its own, would be in no rollup. Therefore marks carry an epoch, only those of earlier epochs than the current one are worked on, and
 * not before every transaction that holds that earlier epoch has ended (worker/rollup/compute.ts). A transaction leaves a mark out only when it
 * holds the epoch in which that was made, and saw afterwards that it is the current one.
 */
export class RollupMarks {
  #epoch = 0
  #marked = new Map<number, Map<number, number[]>>()
  #count = 0

  /** To be sent right after BEGIN; it waits for nobody. */
  begin(client: pg.ClientBase): Promise<EpochRead> {
    const believed = this.#epoch
    const held = client.query<{ held: boolean }>({
      name: 'hold-epoch',
      text: 'select pg_try_advisory_xact_lock_shared($1, $2) as held',
      values: [advisoryLocks.rollupSpace, believed],
    })
    // A statement of its own: its snapshot has to be younger than the lock.
    const current = client.query<{ epoch: number }>({ name: 'read-epoch', text: 'select epoch from rollup_round' })
    return Promise.all([held, current]).then(([{ rows }, { rows: rounds }]) => {
      const epoch = rounds[0]?.epoch as number
      return { epoch, isHeld: rows[0]?.held === true && epoch === believed }
    })
  }

  /** What these plans have to mark. */
  missing({ epoch, isHeld }: EpochRead, plans: readonly ReadingPlan[]): NewMarks {
    const marks: NewMarks = { epoch, deviceIds: [], metricIds: [], buckets: [] }
    const maySkip = isHeld && epoch === this.#epoch
    for (const plan of plans)
      plan.eachBucket(bucketUs, (deviceId, metricId, bucket) => {
        if (maySkip && this.#marked.get(deviceId)?.get(metricId)?.includes(bucket) === true) return
        marks.deviceIds.push(deviceId)
        marks.metricIds.push(metricId)
        marks.buckets.push(bucket)
      })
    return marks
  }

  /** After the commit. */
  keep({ epoch, deviceIds, metricIds, buckets }: NewMarks): void {
    // Also an earlier one: a restored database counts on from there, and would come to the number of old marks again.
    if (epoch !== this.#epoch || this.#count + buckets.length > maxRemembered) this.clear()
    this.#epoch = epoch
    for (let index = 0; index < buckets.length; index++) {
      const deviceId = deviceIds[index] as number
      let metrics = this.#marked.get(deviceId)
      if (metrics === undefined) {
        metrics = new Map()
        this.#marked.set(deviceId, metrics)
      }
      const metricId = metricIds[index] as number
      const known = metrics.get(metricId)
      if (known === undefined) metrics.set(metricId, [buckets[index] as number])
      else if (known.length < bucketsRemembered) known.push(buckets[index] as number)
      else continue
      this.#count++
    }
  }

  /** Another server, which may never have seen the marks. */
  clear(): void {
    this.#marked = new Map()
    this.#count = 0
  }
}

/** Nothing is sent when there is nothing to mark. */
export function sendMarks(client: pg.ClientBase, { epoch, deviceIds, metricIds, buckets }: NewMarks): Promise<unknown> {
  if (buckets.length === 0) return Promise.resolve()
  return client.query({
    name: 'mark-rollups',
    text: `insert into rollup_dirty (epoch, device_id, metric_id, bucket)
      select $1, * from unnest($2::int4[], $3::int4[], $4::timestamptz[])`,
    values: [epoch, int4Array(deviceIds), int4Array(metricIds), timestamptzArray(buckets)],
  })
}
