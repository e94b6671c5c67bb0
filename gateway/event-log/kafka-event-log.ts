import { setTimeout as sleep } from 'node:timers/promises'
import type { Config } from '#platform/config-schema.ts'
import { BridgeError } from '#platform/errors.ts'
import { handleOf } from '#platform/handle.ts'
import { createKafka } from '#platform/kafka-client.ts'
import { type CheckedTopics, checkTopics } from '#platform/kafka-topics-admin.ts'
import { pingBrokers } from '#platform/kafka-wire.ts'
import type { Log } from '#platform/log.ts'
import type { Metrics } from '#platform/metrics.ts'
import { encodeDeadLetter } from '#schema/dead-letter-record.ts'
import { type KafkaTopics, kafkaTopics } from '#schema/kafka-topics.ts'
import { type EncodedRecord, encodeTelemetry } from '#schema/telemetry-record.ts'
import { type Append, AppendQueue, unavailable } from './append-queue.ts'
import type { EventLog } from './event-log.ts'
import { type EventLogMetrics, registerEventLogMetrics } from './event-log-metrics.ts'
import { IdempotentProducer, type OutgoingRecord } from './idempotent-producer.ts'
import { bytesOf, type Failures, KafkaSender } from './kafka-sender.ts'
import { Linger } from './linger.ts'
import { type LogHealth, startLogHealth } from './log-health.ts'
import { KeyHashes, TopicLayout } from './partitioner.ts'

export interface KafkaEventLogOptions {
  readonly log: Log
  readonly metrics: Metrics
  /** How long an append may wait unsent. */
  readonly deadlineMs?: number
  /** How long the start waits for Kafka before it goes on without. */
  readonly startMs?: number
}

/** Encoded records of one append, each with its topic. */
interface Work {
  readonly telemetry: readonly EncodedRecord[]
  readonly deadLetters: readonly EncodedRecord[]
}

/** After a failed batch: what fails at once (an authorization, say) would otherwise be tried as fast as the machine can. */
const pauseAfterFailureMs = 200
const checkAgainMs = 1000
const flushMs = 5000
const probeTimeoutMs = 3000
/** Per record: key, headers and what the broker adds. */
const recordOverheadBytes = 120

/**
 * Starts also while Kafka is away, so that gateways can be restarted then: appends wait up to their deadline, `awayMs` tells.
 * @throws BridgeError BRIDGE_TOPICS_MISSING when Kafka answers without our topics
 */
export async function startKafkaEventLog(kafka: Config['kafka'], options: KafkaEventLogOptions): Promise<EventLog> {
  const eventLog = new KafkaEventLog(kafka, options)
  await eventLog.start(options.startMs ?? 10_000)
  return eventLog
}

class KafkaEventLog implements EventLog {
  readonly kind = 'kafka'

  private readonly kafka: Config['kafka']
  private readonly names: KafkaTopics
  private readonly log: Log
  private readonly queue: AppendQueue<Work>
  private readonly linger: Linger
  private readonly layout = new TopicLayout()
  private readonly producer: IdempotentProducer
  private readonly sender: KafkaSender
  private readonly health: LogHealth
  private readonly metrics: EventLogMetrics
  private readonly handle = handleOf(() => this.shutDown())
  private topics: CheckedTopics | undefined
  private readonly createdMs = performance.now()
  private opened = false
  private sending = false
  private closing = false
  private timer: NodeJS.Timeout | undefined

  constructor(kafka: Config['kafka'], { log, metrics, deadlineMs = 10_000 }: KafkaEventLogOptions) {
    this.kafka = kafka
    this.names = kafkaTopics(kafka.topicPrefix)
    this.log = log
    const client = createKafka(kafka.brokers ?? [], 'fleetbridge-gateway', log)
    this.producer = new IdempotentProducer(client, this.layout, log)
    this.health = startLogHealth(
      () => pingBrokers(kafka.brokers ?? [], probeTimeoutMs),
      () => {
        log.error(
          'a send has no answer for a minute while Kafka answers: its messages are refused, a new producer follows',
        )
        this.metrics.failed('producer_replaced')
        this.producer.replace()
      },
    )
    this.metrics = registerEventLogMetrics(metrics, {
      bufferedBytes: () => this.queue.bytes,
      awayMs: () => this.awayMs(),
    })
    this.queue = new AppendQueue({
      maxBytes: kafka.maxBufferBytes,
      deadlineMs,
      onSettled: (seconds, error) => {
        if (error === undefined) this.metrics.appendSeconds.observe(seconds)
        else this.metrics.failed(error.code === 'BRIDGE_EVENT_LOG_FULL' ? 'full' : 'unavailable')
      },
    })
    this.linger = new Linger(kafka.lingerMs, kafka.maxLingerMs)
    this.sender = new KafkaSender({
      producer: this.producer,
      layout: this.layout,
      hashes: new KeyHashes(),
      topics: this.names,
      log,
      metrics: () => this.metrics,
    })
  }

  /** The weaker promise until Kafka has told. */
  get ackLevel(): EventLog['ackLevel'] {
    return this.topics?.ackLevel ?? 'single-copy'
  }

  async start(startMs: number): Promise<void> {
    const first = this.open()
    try {
      const opened = await Promise.race([first, sleep(startMs, 'late' as const, { ref: false })])
      if (opened !== 'late') return
      this.log.warn(
        { brokers: this.kafka.brokers },
        'Kafka does not answer yet: messages are held, then refused, until it does',
      )
      first.catch(() => this.openLater())
    } catch (error) {
      await this.close()
      throw error
    }
  }

  append(...[events, deadLetters]: Parameters<EventLog['append']>): Promise<void> {
    const telemetry = new Array<EncodedRecord>(events.length)
    let bytes = 0
    for (let index = 0; index < events.length; index++) {
      const record = encodeTelemetry(events[index] as (typeof events)[number])
      telemetry[index] = record
      bytes += bytesOf(record) + recordOverheadBytes
    }
    const parked = deadLetters.map(encodeDeadLetter)
    for (const record of parked) bytes += bytesOf(record) + 2 * recordOverheadBytes
    if (telemetry.length + parked.length === 0) return Promise.resolve()
    const wasEmpty = this.queue.length === 0
    const settled = this.queue.add({ telemetry, deadLetters: parked }, bytes)
    this.linger.arrived(performance.now(), wasEmpty)
    this.wake()
    return settled
  }

  close(): Promise<void> {
    return this.handle.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.handle.close()
  }

  awayMs(): number {
    if (this.opened) return this.health.awayMs()
    return performance.now() - this.createdMs
  }

  /** Checks the topics, however long Kafka is away, and connects the producer. */
  private async open(): Promise<void> {
    while (!this.closing && this.topics === undefined) {
      try {
        const topics = await checkTopics(this.kafka, this.log)
        for (const [topic, partitions] of topics.partitions) this.layout.see(topic, partitions)
        this.topics = topics
      } catch (error) {
        if (!(error instanceof BridgeError) || error.code !== 'BRIDGE_EVENT_LOG_UNAVAILABLE') throw error
        await sleep(checkAgainMs)
      }
    }
    await this.producer.connect()
    this.opened = true
    this.health.answered()
    this.wake()
  }

  /** Kafka came back without our topics: somebody has to make them, and then all goes on. */
  private async openLater(): Promise<void> {
    while (!this.closing) {
      try {
        return await this.open()
      } catch (error) {
        this.log.error({ err: error }, 'the event log cannot be opened')
        await sleep(10 * checkAgainMs, undefined, { ref: false })
      }
    }
  }

  private wake(): void {
    if (this.sending || !this.opened || this.queue.length === 0) return
    const waitMs =
      this.closing || this.queue.bytes >= this.kafka.maxBatchBytes ? 0 : this.linger.waitMs(performance.now())
    if (waitMs <= 0) void this.flush()
    else this.timer ??= setTimeout(this.onTimer, waitMs)
  }

  private readonly onTimer = (): void => {
    this.timer = undefined
    this.wake()
  }

  private async flush(): Promise<void> {
    this.sending = true
    clearTimeout(this.timer)
    this.timer = undefined
    const now = performance.now()
    this.linger.sent(now)
    const appends = this.takeBatch()
    this.health.sendBegins(now)
    const failed = await this.sendAll(appends)
    this.health.sendEnded(!failed)
    if (failed && !this.closing) await sleep(pauseAfterFailureMs)
    this.sending = false
    this.wake()
  }

  private takeBatch(): Append<Work>[] {
    const { maxBatchMessages, maxBatchBytes } = this.kafka
    let records = 0
    let bytes = 0
    return this.queue.take((append) => {
      records += recordsOf(append.work)
      bytes += append.bytes
      return records <= maxBatchMessages && bytes <= maxBatchBytes
    })
  }

  /** @returns whether any append failed */
  private async sendAll(appends: readonly Append<Work>[]): Promise<boolean> {
    const { telemetry, deadLetter } = this.names
    const all: OutgoingRecord[] = []
    const ends = new Array<number>(appends.length)
    let bytes = 0
    for (let index = 0; index < appends.length; index++) {
      const { work, bytes: own } = appends[index] as Append<Work>
      for (const record of work.telemetry) all.push(this.sender.address(telemetry, record))
      for (const record of work.deadLetters) all.push(this.sender.address(deadLetter, record))
      ends[index] = all.length
      bytes += own
    }
    const failures = await this.sendSlices(all, bytes)
    for (let index = 0; index < appends.length; index++) {
      const own = failures && all.slice(ends[index - 1] ?? 0, ends[index]).find((record) => failures.has(record))
      const cause = own && failures?.get(own)
      appends[index]?.settle(own && unavailable(`Kafka gave up: ${cause?.message}`, cause))
    }
    return failures !== undefined
  }

  /** Only one append that is larger than a send makes more than one slice. */
  private async sendSlices(all: readonly OutgoingRecord[], bytes: number): Promise<Failures | undefined> {
    const { maxBatchMessages, maxBatchBytes } = this.kafka
    let failures: Failures | undefined
    for (let from = 0; from < all.length; ) {
      let to = from
      for (let sliceBytes = 0; to < all.length && to - from < maxBatchMessages; to++) {
        if (bytes > maxBatchBytes) sliceBytes += bytesOf(all[to] as OutgoingRecord) + recordOverheadBytes
        if (sliceBytes > maxBatchBytes && to > from) break
      }
      this.metrics.batchRecords.observe(to - from)
      const failed = await this.sender.send(from === 0 && to === all.length ? all : all.slice(from, to))
      if (failed !== undefined) failures = new Map([...(failures ?? []), ...failed])
      from = to
    }
    return failures
  }

  private async shutDown(): Promise<void> {
    this.closing = true
    const emptied = this.queue.close()
    this.wake()
    await Promise.race([emptied, sleep(flushMs, undefined, { ref: false })])
    this.queue.withdrawAll('the event log is closed')
    await this.producer.close()
    await emptied
    this.health.close()
  }
}

function recordsOf({ telemetry, deadLetters }: Work): number {
  return telemetry.length + deadLetters.length
}
