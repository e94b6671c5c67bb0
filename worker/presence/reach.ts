import type pg from 'pg'
import type { Config } from '#platform/config-schema.ts'
import { checkTopics } from '#platform/kafka-topics-admin.ts'
import type { Log } from '#platform/log.ts'
import { kafkaTopics } from '#schema/kafka-topics.ts'
import { TopicAdmin } from '../consume/topic-admin.ts'
import { int4Array, int8Array, textArray } from '../store/array-parameter.ts'

/** How far the tables know what gateways have written: what is missing in them before that instant did not happen. */
export interface Reached {
  /** By the clock of the database, milliseconds since the epoch. */
  readonly asOfMs: number
  /** For how long before that the log has answered without a break: who could not write has had this long to do so. */
  readonly wellMs: number
}

export interface Reach {
  /** @returns undefined while it is not known. Never throws */
  advance(): Promise<Reached | undefined>
  close(): Promise<void>
}

/** Without a log between, all that was acknowledged is in the tables. */
export function directReach(pool: Pick<pg.Pool, 'query'>): Reach {
  let wellSinceMs: number | undefined
  return {
    async advance() {
      try {
        const asOfMs = await databaseNow(pool)
        wellSinceMs ??= asOfMs
        return { asOfMs, wellMs: asOfMs - wellSinceMs }
      } catch {
        wellSinceMs = undefined
        return undefined
      }
    },
    close: () => Promise.resolve(),
  }
}

interface Mark {
  readonly asOfMs: number
  readonly streams: string[]
  readonly partitions: number[]
  readonly highs: number[]
}

const namesEveryMs = 60_000

/**
 * Notes where the log ends now, and once all workers together have written up to there, the tables know everything up to now. A worker that is
 * behind, or a log that was away, moves it on later, so neither makes a device or a gateway look dead.
 */
export function kafkaReach(kafka: Config['kafka'], pool: Pick<pg.Pool, 'query'>, log: Log): Reach {
  const admin = new TopicAdmin(kafka, log)
  const { telemetry, deviceEvent } = kafkaTopics(kafka.topicPrefix)
  let streams: ReadonlyMap<string, string> = new Map()
  let namedMs = Number.NEGATIVE_INFINITY
  let mark: Mark | undefined
  let reachedMs: number | undefined
  let wellSinceMs: number | undefined

  async function setMark(): Promise<Mark> {
    if (performance.now() - namedMs > namesEveryMs) {
      streams = (await checkTopics(kafka, log)).streams
      namedMs = performance.now()
    }
    const asOfMs = await databaseNow(pool) // before the log is asked: what comes between is beyond it
    const found: Mark = { asOfMs, streams: [], partitions: [], highs: [] }
    for (const topic of [telemetry, deviceEvent])
      for (const [partition, { low, high }] of await admin.bounds(topic)) {
        if (high === low) continue // nothing in it, and maybe nobody has ever written its row
        found.streams.push(streams.get(topic) ?? topic)
        found.partitions.push(partition)
        found.highs.push(high)
      }
    return found
  }

  async function isReached({ streams: names, partitions, highs }: Mark): Promise<boolean> {
    const { rows } = await pool.query<{ behind: boolean }>(
      `select coalesce(bool_or(coalesce(o.next_offset, 0) < k.high), false) as behind
       from unnest($1::text[], $2::int4[], $3::int8[]) as k(stream, partition, high)
       left join ingest_offset o on o.stream = k.stream and o.partition = k.partition`,
      [textArray(names), int4Array(partitions), int8Array(highs)],
    )
    return rows[0]?.behind === false
  }

  return {
    async advance() {
      try {
        if (mark !== undefined && (await isReached(mark))) {
          reachedMs = mark.asOfMs
          mark = undefined
        }
        mark ??= await setMark()
        wellSinceMs ??= mark.asOfMs
      } catch {
        // Kafka or the database is away: gateways may have as little to say it by.
        wellSinceMs = undefined
        mark = undefined
        reachedMs = undefined
      }
      return reachedMs === undefined || wellSinceMs === undefined
        ? undefined
        : { asOfMs: reachedMs, wellMs: reachedMs - wellSinceMs }
    },
    close: () => admin.close(),
  }
}

async function databaseNow(pool: Pick<pg.Pool, 'query'>): Promise<number> {
  const { rows } = await pool.query<{ ms: number }>(
    'select (extract(epoch from clock_timestamp()) * 1000)::float8 as ms',
  )
  return rows[0]?.ms as number
}
