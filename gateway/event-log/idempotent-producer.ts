import { setTimeout as sleep } from 'node:timers/promises'
import type { Kafka, Message, Producer } from 'kafkajs'
import { metadataMaxAgeMs, requestTimeoutMs, retryForEver } from '#platform/kafka-client.ts'
import type { Log } from '#platform/log.ts'
import type { TopicLayout } from './partitioner.ts'

/** A record on its way to Kafka, in the form that kafkajs takes. Its partition is settled once, so that a retry can't choose another one. */
export interface OutgoingRecord extends Message {
  readonly topic: string
  readonly key: string
  readonly value: string | Buffer | null
  readonly partition: number
}

/** A send whose answer never came although Kafka answers others; its fate is not known. */
export class AbandonedSend extends Error {}

/** kafkajs sets the sequence to 0 past 2^31 instead of going around, which the broker refuses: a new producer comes in time. */
const maxRecords = 1_000_000_000
const connectRetryMs = 500
const disconnectMs = 2000
/** Below the request's own timeout, so that a slow replica is an answer (and a retry), not a broken connection. */
const acknowledgeMs = requestTimeoutMs - 1000

/**
 * One idempotent Kafka producer at a time. `replace()` after an error that its sequence numbers don't survive: a producer id that the broker
 * has refused once is of no use any more, and going on with it would lose or double records.
 */
export class IdempotentProducer {
  private readonly kafka: Kafka
  private readonly layout: TopicLayout
  private readonly log: Log
  private current: { readonly producer: Producer; readonly life: Life } | undefined
  private connecting: Promise<void> | undefined
  private readonly ended = new Life()
  private records = 0

  constructor(kafka: Kafka, layout: TopicLayout, log: Log) {
    this.kafka = kafka
    this.layout = layout
    this.log = log
  }

  get connected(): boolean {
    return this.current !== undefined
  }

  /** Resolves when a producer is connected, however long that takes. */
  connect(): Promise<void> {
    this.connecting ??= this.tryToConnect().finally(() => (this.connecting = undefined))
    return this.current === undefined ? this.connecting : Promise.resolve()
  }

  /**
   * Sends one request; the records must belong to partitions of one leader. kafkajs repeats the request under the same sequence numbers for
   * as long as the error may pass, so a record is stored once however often that happens.
   * @throws the error that ended the attempts
   */
  async send(records: readonly OutgoingRecord[]): Promise<void> {
    if (this.current === undefined) await this.ended.during(this.connect())
    if (this.current === undefined) throw new AbandonedSend('the producer is closed')
    const { producer, life } = this.current
    const topicMessages = byTopic(records)
    this.records += records.length
    await life.during(producer.sendBatch({ acks: -1, timeout: acknowledgeMs, topicMessages }))
  }

  /** True when the sequence numbers should not grow further. */
  get worn(): boolean {
    return this.records > maxRecords
  }

  /** Lets go of the producer; the next send connects a new one, with a new producer id. */
  replace(): void {
    void this.letGo()
  }

  /** What is still on its way fails. */
  async close(): Promise<void> {
    this.ended.end()
    await this.letGo()
  }

  private async letGo(): Promise<void> {
    const old = this.current
    this.current = undefined
    this.records = 0
    if (old === undefined) return
    old.life.end()
    const disconnected = old.producer.disconnect().catch(() => undefined)
    await Promise.race([disconnected, sleep(disconnectMs, undefined, { ref: false })])
  }

  private async tryToConnect(): Promise<void> {
    while (!this.ended.over && this.current === undefined) {
      const life = new Life()
      const producer = this.kafka.producer({
        idempotent: true,
        maxInFlightRequests: 1,
        allowAutoTopicCreation: false,
        metadataMaxAge: metadataMaxAgeMs,
        retry: retryForEver,
        createPartitioner: () => (args) => {
          // The loop of retries inside kafkajs can't be called off; this is where it comes by before it writes, and a TypeError ends it.
          if (life.over) throw new TypeError('this producer was replaced')
          this.layout.see(args.topic, args.partitionMetadata)
          return args.message.partition as number
        },
      })
      try {
        await producer.connect()
        this.current = { producer, life }
      } catch (error) {
        this.log.warn({ err: error }, 'no Kafka producer yet')
        await producer.disconnect().catch(() => undefined)
        await sleep(connectRetryMs)
      }
    }
  }
}

/** Ends with its producer: what still waits for that producer's answers stops waiting. */
class Life {
  over = false
  private readonly waiting = new Set<(error: Error) => void>()

  /** The promise's outcome, or AbandonedSend at the end of this life. Not by Promise.race, which would grow with every send. */
  during(promise: Promise<unknown>): Promise<void> {
    return new Promise((resolve, reject) => {
      this.waiting.add(reject)
      promise.then(
        () => {
          this.waiting.delete(reject)
          resolve()
        },
        (error: unknown) => {
          this.waiting.delete(reject)
          reject(error)
        },
      )
    })
  }

  end(): void {
    this.over = true
    for (const reject of this.waiting) reject(new AbandonedSend('the producer was replaced before Kafka answered'))
    this.waiting.clear()
  }
}

function byTopic(records: readonly OutgoingRecord[]): { topic: string; messages: Message[] }[] {
  const topics: { topic: string; messages: Message[] }[] = []
  for (const record of records) {
    let entry = topics.find(({ topic }) => topic === record.topic)
    if (entry === undefined) {
      entry = { topic: record.topic, messages: [] }
      topics.push(entry)
    }
    entry.messages.push(record)
  }
  return topics
}
