import { setTimeout as sleep } from 'node:timers/promises'
import type { Config } from '#platform/config-schema.ts'
import { type Handle, handleOf } from '#platform/handle.ts'
import { checkTopics } from '#platform/kafka-topics-admin.ts'
import type { Log } from '#platform/log.ts'
import type { Metrics } from '#platform/metrics.ts'
import type { Store } from '../store/store.ts'
import { Session } from './session.ts'
import { TopicAdmin } from './topic-admin.ts'
import { unreadRetention } from './unread-retention.ts'

export interface ConsumerOptions {
  readonly kafka: Config['kafka']
  readonly store: Store
  readonly log: Log
  readonly metrics: Metrics
  /** For tests: how long records may lie unread before the client counts as lost. */
  readonly quietMs?: number
}

export interface ConsumerState {
  readonly joined: boolean
  /** Partitions of this worker, and those among them that are not read any more (`topic/partition`). */
  readonly partitions: number
  readonly stopped: readonly string[]
  readonly lag: number
  /** For how long writing has failed; 0 when it is well. */
  readonly failingMs: number
}

export interface Consumer extends Handle {
  state(): ConsumerState
}

const watchEveryMs = 2000
const roundsPerCheck = 5
const roundsPerRetention = 15
const restartPauseMs = 1000
const silentMs = 30_000
const joinMs = 60_000

/** Reads the topics into the store for as long as it lives, whatever becomes of Kafka, Postgres and the group meanwhile. */
export function startConsumer(options: ConsumerOptions): Consumer {
  const { kafka, store, log, metrics, quietMs = 15_000 } = options
  const admin = new TopicAdmin(kafka, log)
  const stopping = new AbortController()
  let session: Session
  let sessionStartedMs = 0
  let restarting = false
  let unreadRatio = 0
  const restarts = metrics.counter(
    'fleetbridge_consumer_restarts_total',
    'Kafka consumers replaced: the client gave up, or records lay unread (quiet)',
    ['reason'],
    [{ reason: 'crash' }, { reason: 'quiet' }],
  )
  metrics.gauge(
    'fleetbridge_consumer_lag_records',
    "Records in this worker's partitions that are not in the tables yet",
    () => session.positions.lag,
  )
  metrics.gauge(
    'fleetbridge_consumer_partitions',
    'Partitions that this worker was given',
    () => session.positions.all.length,
  )
  metrics.gauge(
    'fleetbridge_consumer_stopped_partitions',
    'Partitions that are not read any more because their stored offset is not in the log',
    () => stoppedOf(session).length,
  )
  metrics.gauge(
    'fleetbridge_consumer_unread_retention_ratio',
    "For which share of Kafka's retention records of this worker's partitions have waited: 0, 0.25, 0.5, 0.75 or 0.9; at 1 they are lost",
    () => (session.positions.lag === 0 ? 0 : unreadRatio),
  )

  const open = () => {
    sessionStartedMs = performance.now()
    session = new Session({ kafka, store, admin, log, onCrash: (error) => void replace('crash', error) })
    session.start().catch((error: unknown) => void replace('crash', error))
  }

  const replace = async (reason: 'crash' | 'quiet', error?: unknown) => {
    if (restarting || stopping.signal.aborted) return
    restarting = true
    restarts.inc({ reason })
    log.warn({ err: error, reason }, 'the Kafka consumer is replaced')
    await session.abandon()
    await sleep(restartPauseMs, undefined, { ref: false })
    restarting = false
    if (!stopping.signal.aborted) open()
  }

  open()
  void watch()

  return {
    state: () => ({
      joined: session.joined,
      partitions: session.positions.all.length,
      stopped: stoppedOf(session),
      lag: session.positions.lag,
      failingMs: session.failingSinceMs === undefined ? 0 : performance.now() - session.failingSinceMs,
    }),
    ...handleOf(async () => {
      stopping.abort()
      await session.close()
      await admin.close()
    }),
  }

  /** Keeps the lag up to date, also of partitions from which nothing comes, and sees when the client has gone quiet. */
  async function watch(): Promise<void> {
    const { signal } = stopping
    let rounds = 0
    for (;;) {
      await sleep(watchEveryMs, undefined, { ref: false, signal }).catch(() => undefined)
      if (signal.aborted) return
      try {
        await refreshBounds(session, admin)
        if (rounds % roundsPerRetention === 0)
          unreadRatio = await unreadRetention(session.positions.all, admin, Date.now())
        const again = (++rounds % roundsPerCheck === 0 && (await isAnotherLog(session))) || (await wentBack(session))
        if (again) await session.resync()
      } catch {
        continue // Kafka is away: nobody reads anything then
      }
      if (isQuiet()) await replace('quiet')
    }
  }

  /** A topic that was deleted and made again under our feet; kafkajs goes on in it at the old offsets. */
  async function isAnotherLog({ positions }: Session): Promise<boolean> {
    const { streams } = await checkTopics(kafka, log)
    const changed = positions.running.find(({ topic, stream }) => streams.get(topic) !== stream)
    if (changed !== undefined)
      log.error({ topic: changed.topic }, 'the topic was made again: reading it from its beginning')
    return changed !== undefined
  }

  /**
   * A database that was restored, or a standby that lacks the last commits, knows less than was committed. The next write would be fenced; in a
   * quiet night there is none.
   */
  async function wentBack({ positions, isBusy }: Session): Promise<boolean> {
    if (isBusy) return false
    for (const [stream, members] of Map.groupBy(positions.running, (position) => position.stream)) {
      const partitions = members.map(({ partition }) => partition)
      const found = await store.offsets(stream, partitions)
      const behind = members.find(({ partition, stored, low }) => (found.get(partition) ?? low) < stored)
      if (behind === undefined) continue
      const { topic, partition, stored } = behind
      const fields = { topic, partition, stored, found: found.get(partition) }
      log.warn(fields, 'the database went back to an earlier state: reading again from its offsets')
      return true
    }
    return false
  }

  /** kafkajs has been seen to stop fetching after a rebalance without a word. */
  function isQuiet(): boolean {
    const now = performance.now()
    if (restarting || session.isBusy) return false
    if (!session.joined) return now - sessionStartedMs > joinMs
    if (now - session.lastSignMs > silentMs) return true
    return session.positions.unread > 0 && now - session.lastProgressMs > quietMs
  }
}

function stoppedOf({ positions }: Session): string[] {
  return positions.all.flatMap(({ topic, partition, stopped }) =>
    stopped === undefined ? [] : [`${topic}/${partition}`],
  )
}

async function refreshBounds({ positions }: Session, admin: TopicAdmin): Promise<void> {
  for (const topic of new Set(positions.all.map((position) => position.topic)))
    for (const [partition, bounds] of await admin.bounds(topic)) {
      const position = positions.get(topic, partition)
      if (position !== undefined) Object.assign(position, bounds)
    }
}
