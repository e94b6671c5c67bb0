import { setTimeout as sleep } from 'node:timers/promises'
import type { Consumer, EachBatchPayload, KafkaMessage } from 'kafkajs'
import type { Config } from '#platform/config-schema.ts'
import { BridgeError } from '#platform/errors.ts'
import { createKafka, metadataMaxAgeMs, retryForEver } from '#platform/kafka-client.ts'
import { checkTopics } from '#platform/kafka-topics-admin.ts'
import type { Log } from '#platform/log.ts'
import { kafkaTopics, workerGroup } from '#schema/kafka-topics.ts'
import type { Store } from '../store/store.ts'
import type { StreamRecord, StreamSlice } from '../store/stream-slice.ts'
import { decodeSlice, type PartitionName } from './decode-slice.ts'
import { Gatherer } from './gatherer.ts'
import { byTopic, type Position, Positions } from './positions.ts'
import type { TopicAdmin } from './topic-admin.ts'

export interface SessionParts {
  readonly kafka: Config['kafka']
  readonly store: Store
  readonly admin: TopicAdmin
  readonly log: Log
  /** The client has given up by itself: a new session is needed. */
  readonly onCrash: (error: Error) => void
}

/** After a broker's restart the group waits one session timeout; below 6 s brokers refuse it by default. */
const sessionTimeoutMs = 6000
const rebalanceTimeoutMs = 8000
const heartbeatIntervalMs = 2000
const maxWaitMs = 250
/** More partitions than that wait for their turn. */
const concurrency = 64
const chunkRecords = 1000
const commitEveryMs = 1000
const leaveMs = 5000
const tellNewerEveryMs = 60_000
const firstPauseMs = 100
const longestPauseMs = 2000

/**
 * One membership in the consumer group, from joining to leaving. Where a partition goes on is what Postgres says, in the transaction of the
 * rows: it is read at every assignment and after every write that failed or was fenced, and the group's own offsets are committed afterwards
 * for those who watch the lag.
 */
export class Session {
  readonly positions = new Positions()
  joined = false
  /** performance.now() of the last fetch, join or batch. */
  lastSignMs = performance.now()
  /** performance.now() of the last batch of records, write or resync. */
  lastProgressMs = performance.now()
  /** performance.now() since when writes or reads of offsets fail. */
  failingSinceMs: number | undefined

  private readonly parts: SessionParts
  private readonly consumer: Consumer
  private readonly gatherer: Gatherer
  /** Goes up whenever what was read so far must not be written any more. */
  private generation = 0
  private resyncing = 0
  private handling = 0
  private over = false
  private readonly committable = new Map<Position, number>()
  private committing = false
  private readonly commitTimer: NodeJS.Timeout
  private readonly second = new SharedTimer(1000)
  private failures = 0
  private newerToldMs = -Infinity
  private unreadToldMs = -Infinity

  constructor(parts: SessionParts) {
    this.parts = parts
    this.consumer = createKafka(parts.kafka.brokers ?? [], 'fleetbridge-worker', parts.log).consumer({
      groupId: workerGroup(parts.kafka),
      sessionTimeout: sessionTimeoutMs,
      rebalanceTimeout: rebalanceTimeoutMs,
      heartbeatInterval: heartbeatIntervalMs,
      maxWaitTimeInMs: maxWaitMs,
      metadataMaxAge: metadataMaxAgeMs,
      allowAutoTopicCreation: false,
      retry: { ...retryForEver, restartOnFailure: async () => false },
    })
    this.gatherer = new Gatherer({
      write: (slices) => this.write(slices),
      onFailed: (error) => this.onWriteFailed(error),
    })
    this.commitTimer = setInterval(() => void this.commit(), commitEveryMs).unref()
  }

  /** Joins the group, however long Kafka is away. */
  async start(): Promise<void> {
    const { kafka, onCrash } = this.parts
    const { telemetry, deadLetter, deviceEvent } = kafkaTopics(kafka.topicPrefix)
    const { GROUP_JOIN, FETCH, CRASH } = this.consumer.events
    this.consumer.on(FETCH, () => {
      this.lastSignMs = performance.now()
    })
    this.consumer.on(CRASH, ({ payload }) => {
      if (!this.over) onCrash(payload.error)
    })
    // The listener runs before the first fetch of the new assignment: nothing is read until its offsets are known.
    this.consumer.on(GROUP_JOIN, ({ payload }) => this.onJoin(payload.memberAssignment))
    await this.consumer.connect()
    await this.consumer.subscribe({ topics: [telemetry, deadLetter, deviceEvent], fromBeginning: true })
    await this.consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      partitionsConsumedConcurrently: concurrency,
      eachBatch: (payload) => this.onBatch(payload),
    })
  }

  /** True while it waits for Postgres rather than for Kafka. */
  get isBusy(): boolean {
    return this.handling > 0 || this.resyncing > 0 || !this.gatherer.isEmpty
  }

  /** Reads again where all partitions stand. */
  resync(): Promise<void> {
    return this.findPositions(++this.generation)
  }

  /** Finishes the write in hand, commits its offsets and leaves the group. */
  async close(): Promise<void> {
    this.over = true
    clearInterval(this.commitTimer)
    await this.gatherer.drain()
    await Promise.race([this.commit(), sleep(leaveMs, undefined, { ref: false })])
    await this.leave()
  }

  /** Leaves without finishing anything: what was read and not written is read again. */
  async abandon(): Promise<void> {
    this.over = true
    this.generation++
    clearInterval(this.commitTimer)
    await this.gatherer.drop()
    await this.leave()
  }

  private async leave(): Promise<void> {
    await Promise.race([this.consumer.disconnect().catch(() => undefined), sleep(leaveMs, undefined, { ref: false })])
  }

  private onJoin(assignment: Record<string, number[]>): void {
    const { telemetry, deviceEvent } = kafkaTopics(this.parts.kafka.topicPrefix)
    const names = Object.entries(assignment).flatMap(([topic, partitions]) =>
      partitions.map(
        (partition): PartitionName => ({
          topic,
          partition,
          stream: '',
          holds: topic === telemetry ? 'telemetry' : topic === deviceEvent ? 'device-events' : 'dead-letters',
        }),
      ),
    )
    this.lastSignMs = performance.now()
    this.joined = true
    this.committable.clear()
    this.positions.assign(names)
    this.parts.log.info({ partitions: names.length }, 'joined the consumer group')
    void this.resync()
  }

  /** Pauses everything, reads the stored offsets and what Kafka holds, and goes on from there. A newer call takes over. */
  private async findPositions(generation: number): Promise<void> {
    const { log } = this.parts
    const isCurrent = () => !this.over && generation === this.generation
    this.resyncing++
    try {
      for (const position of this.positions.all) position.next = undefined
      this.consumer.pause(byTopic(this.positions.all))
      // A write in hand may still commit: read before, its offset would look like another worker's.
      await this.gatherer.drop()
      // What fails again and again although the database answers must not turn as fast as the machine can.
      if (this.failures > 1) await sleep(Math.min(longestPauseMs, firstPauseMs * 2 ** this.failures))
      for (let pauseMs = firstPauseMs; isCurrent(); pauseMs = Math.min(longestPauseMs, pauseMs * 2)) {
        try {
          const found = await this.readPositions()
          if (isCurrent()) this.goOn(found)
          return
        } catch (error) {
          this.failingSinceMs ??= performance.now()
          if (pauseMs === firstPauseMs) log.warn({ err: error }, 'the offsets cannot be read; trying again')
          await sleep(pauseMs)
        }
      }
    } catch (error) {
      // kafkajs throws here once its consumer has stopped by itself; the crash is told separately.
      if (isCurrent()) log.warn({ err: error }, 'the partitions cannot be set')
    } finally {
      this.resyncing--
    }
  }

  private async readPositions(): Promise<Position[]> {
    const { kafka, log, store, admin } = this.parts
    const positions = this.positions.all
    if (positions.length === 0) return []
    const { streams } = await checkTopics(kafka, log)
    const found: Position[] = []
    for (const [topic, members] of Map.groupBy(positions, (position) => position.topic)) {
      const stream = streams.get(topic) ?? topic
      const partitions = members.map(({ partition }) => partition)
      const [bounds, stored] = await Promise.all([admin.bounds(topic, partitions), store.offsets(stream, partitions)])
      for (const position of members) {
        const { low, high } = bounds.get(position.partition) ?? { low: 0, high: 0 }
        const next = stored.get(position.partition)
        found.push({ ...position, stream, low, high, stored: next ?? low, next: next ?? low, stopped: undefined })
      }
    }
    return found
  }

  private goOn(found: readonly Position[]): void {
    for (const { topic, partition, ...known } of found) {
      const position = Object.assign(this.positions.get(topic, partition) as Position, known)
      const { low, high, next = low } = position
      if (next < low || next > high) this.stop(position, next)
      else this.consumer.seek({ topic, partition, offset: String(next) })
    }
    this.consumer.resume(byTopic(this.positions.running))
    this.failingSinceMs = undefined
    this.lastProgressMs = performance.now()
  }

  /** Loudly: going on elsewhere would skip records, or write others under offsets that were written. */
  private stop(position: Position, next: number): void {
    const { topic, partition, stream, low, high } = position
    const lost =
      next < low
        ? `records ${next} to ${low - 1} were deleted before they were written`
        : 'the log is shorter than it was'
    position.stopped = new BridgeError(
      'BRIDGE_OFFSET_OUT_OF_RANGE',
      `${topic} partition ${partition} is not read any more: it goes on at ${next}, the log holds ${low} to ${high} (${lost}). To go on at ${low}, stop the workers and delete its row in ingest_offset`,
      { details: { stream, partition, next, low, high } },
    )
    this.consumer.pause(byTopic([position]))
    this.parts.log.error({ err: position.stopped }, 'a partition is stopped; the others go on')
  }

  private async onBatch({ batch, resolveOffset, heartbeat, isStale, isRunning }: EachBatchPayload): Promise<void> {
    this.handling++
    try {
      this.lastSignMs = performance.now()
      const { generation } = this
      const isCurrent = () => generation === this.generation && !this.over && isRunning() && !isStale()
      const position = this.positions.get(batch.topic, batch.partition)
      if (position?.next === undefined || position.stopped !== undefined || !isCurrent()) return
      position.high = Math.max(position.high, Number(batch.highWatermark))
      const fetchedOffset = Number((batch as unknown as { fetchedOffset: string }).fetchedOffset)
      if (fetchedOffset < position.next) {
        // kafkajs has gone back by itself: the log is shorter than it was, or it is another one under the old name.
        this.parts.log.warn(
          { topic: batch.topic, partition: batch.partition, fetchedOffset },
          'the log went back; reading the offsets again',
        )
        void this.resync()
        return
      }
      if (fetchedOffset > position.next) {
        await this.explainGap(position, position.next, isCurrent)
        if (position.stopped !== undefined || !isCurrent()) return
      }
      for (let from = 0; from < batch.messages.length; from += chunkRecords) {
        while (this.gatherer.isFull && isCurrent()) await this.whileAlive(this.gatherer.taken(), heartbeat)
        if (!isCurrent()) return
        const chunk = batch.messages.slice(from, from + chunkRecords)
        this.gather(position, chunk)
        resolveOffset((chunk.at(-1) as KafkaMessage).offset)
      }
      // Fetching on at once would only make smaller batches: the next ones are asked for when this one is being written.
      await this.whileAlive(this.gatherer.taken(), heartbeat)
    } finally {
      this.handling--
    }
  }

  private gather(position: Position, messages: readonly KafkaMessage[]): void {
    const slice = decodeSlice(position, messages, position.next as number, (why) => {
      if (performance.now() < this.unreadToldMs + tellNewerEveryMs) return
      this.unreadToldMs = performance.now()
      this.parts.log.warn({ topic: position.topic, why }, 'a device event cannot be read and is left out')
    })
    this.lastProgressMs = performance.now()
    this.tellNewer(position, slice)
    position.next = slice.nextOffset
    if (slice.nextOffset > slice.fromOffset) this.gatherer.add(slice)
  }

  /** Loudly, but not for each: somebody has upgraded a gateway before the workers. */
  private tellNewer({ topic, partition }: Position, { records }: StreamSlice): void {
    if (performance.now() < this.newerToldMs + tellNewerEveryMs || !records.some(isOfNewerVersion)) return
    this.newerToldMs = performance.now()
    this.parts.log.error({ topic, partition }, 'records of a newer version are parked: upgrade the workers')
  }

  /**
   * kafkajs goes to the earliest record by itself when an offset is out of range. Records that are missing in the middle are none: markers of
   * transactions, compaction.
   */
  private async explainGap(position: Position, next: number, isCurrent: () => boolean): Promise<void> {
    const bounds = (await this.parts.admin.bounds(position.topic)).get(position.partition)
    if (bounds === undefined || !isCurrent()) return
    Object.assign(position, bounds)
    if (next < bounds.low || next > bounds.high) this.stop(position, next)
  }

  /** Keeps the membership while Postgres is slow or away. Throws when the group rebalances, as kafkajs wants it. */
  private async whileAlive(taken: Promise<void>, heartbeat: () => Promise<void>): Promise<void> {
    let done = false
    const finished = taken.then(() => {
      done = true
    })
    do {
      await Promise.race([finished, this.second.next()])
      await heartbeat()
    } while (!done)
  }

  private async write(slices: readonly StreamSlice[]): Promise<void> {
    await this.parts.store.write(slices)
    this.failures = 0
    this.lastProgressMs = performance.now()
    this.failingSinceMs = undefined
    for (const { stream, partition, nextOffset } of slices) {
      const position = this.positions.all.find((one) => one.stream === stream && one.partition === partition)
      if (position === undefined) continue
      position.stored = nextOffset
      this.committable.set(position, nextOffset)
    }
  }

  private onWriteFailed(error: unknown): void {
    if (this.over) return
    this.failures++
    const fenced = error instanceof BridgeError && error.code === 'BRIDGE_OFFSET_FENCED'
    if (fenced) this.parts.log.info({ err: error }, 'another worker has written meanwhile; reading the offsets again')
    else {
      this.failingSinceMs ??= performance.now()
      this.parts.log.warn({ err: error }, 'a write failed; reading the offsets again')
    }
    void this.resync()
  }

  private async commit(): Promise<void> {
    if (this.committing || this.committable.size === 0) return
    this.committing = true
    const offsets = [...this.committable].map(([{ topic, partition }, next]) => ({
      topic,
      partition,
      offset: String(next),
    }))
    this.committable.clear()
    try {
      await Promise.race([this.consumer.commitOffsets(offsets), sleep(leaveMs, undefined, { ref: false })])
    } catch (error) {
      this.parts.log.debug({ err: error }, 'the group offsets were not committed; the stored ones count')
    } finally {
      this.committing = false
    }
  }
}

function isOfNewerVersion(record: StreamRecord): boolean {
  return 'deadLetter' in record && record.deadLetter.stage === 'store' && record.deadLetter.code === 'unsupported'
}

/** One timer for many that wait: a timer for each batch of each partition would be hundreds a second. */
class SharedTimer {
  private readonly ms: number
  private current: Promise<void> | undefined

  constructor(ms: number) {
    this.ms = ms
  }

  /** Resolves within the time, sooner for those who come later. */
  next(): Promise<void> {
    this.current ??= sleep(this.ms, undefined, { ref: false }).then(() => {
      this.current = undefined
    })
    return this.current
  }
}
