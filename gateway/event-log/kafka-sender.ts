import type { Log } from '#platform/log.ts'
import { decodeDeadLetter, encodeDeadLetter, refusedRecord } from '#schema/dead-letter-record.ts'
import type { KafkaTopics } from '#schema/kafka-topics.ts'
import type { TelemetryEvent } from '#schema/telemetry-event.ts'
import type { EncodedRecord } from '#schema/telemetry-record.ts'
import type { EventLogMetrics } from './event-log-metrics.ts'
import { AbandonedSend, type IdempotentProducer, type OutgoingRecord } from './idempotent-producer.ts'
import type { KeyHashes, TopicLayout } from './partitioner.ts'

/** Kafka's word that a record itself is the trouble. INVALID_TIMESTAMP is not among them: then our clock is, and nothing may be parked for that. */
const refusals = new Set(['MESSAGE_TOO_LARGE', 'RECORD_LIST_TOO_LARGE', 'INVALID_RECORD'])

export interface KafkaSenderParts {
  readonly producer: IdempotentProducer
  readonly layout: TopicLayout
  readonly hashes: KeyHashes
  readonly topics: KafkaTopics
  readonly log: Log
  readonly metrics: () => EventLogMetrics
}

/** Records that could not be made durable, with the reason. */
export type Failures = Map<OutgoingRecord, Error>

/**
 * Makes a batch of records durable, one batch at a time.
 *
 * When a request fails for good, some of its partitions may hold its records and others not; kafkajs names neither. So the partitions are sent
 * again one by one with the same producer: kafkajs has put the sequence numbers back, so a partition that holds them recognises the
 * repetition and stores nothing twice, and one that refuses says so alone (a partition takes its part of a request whole or not at all).
 * What then happens to a partition's records:
 * - a refusal of records: halved until one record stands alone, which is parked without its bytes;
 * - OUT_OF_ORDER_SEQUENCE_NUMBER: the log has lost what came before and does not hold these either, or it would have recognised them;
 *   so a new producer may send them without storing twice;
 * - DUPLICATE_SEQUENCE_NUMBER: the log holds them;
 * - anything else leaves open whether it holds them, and under a new producer id it could not recognise them: they fail, their senders
 *   repeat them under the same rules as after any lost answer, and the next batch gets a new producer.
 */
export class KafkaSender {
  private readonly parts: KafkaSenderParts

  constructor(parts: KafkaSenderParts) {
    this.parts = parts
  }

  /** Gives a record its partition. */
  address(topic: string, { key, value, headers, timestampMs }: EncodedRecord): OutgoingRecord {
    const { hashes, layout } = this.parts
    const partition = hashes.of(key) % layout.count(topic)
    return { topic, key, value, headers: headers as Record<string, string>, timestamp: String(timestampMs), partition }
  }

  /** @returns the records that failed; undefined when all are durable, or parked */
  async send(records: readonly OutgoingRecord[]): Promise<Failures | undefined> {
    const { producer } = this.parts
    if (producer.worn) producer.replace()
    const requests = this.byLeader(records)
    const failures: Failures = new Map()
    const doubtful: OutgoingRecord[][] = []
    // One request a leader: with several leaders in one sendBatch, kafkajs repeats to all when one fails, under new sequence numbers.
    await Promise.all(
      requests.map(async (request) => {
        const error = await this.trySend(request)
        // Its producer is gone, and a new one could store it twice.
        if (error instanceof AbandonedSend) failAll(request, error, failures)
        else if (error !== undefined) doubtful.push(request)
      }),
    )
    if (doubtful.length > 0) await this.sendApart(doubtful.flatMap(byPartition), failures)
    return failures.size === 0 ? undefined : failures
  }

  private async sendApart(groups: readonly OutgoingRecord[][], failures: Failures): Promise<void> {
    const { producer, metrics, log } = this.parts
    const outcome: Outcome = { failures, lost: [], refused: [], fatal: undefined }
    for (const group of groups) await this.sendGroup(group, outcome)
    if (outcome.lost.length > 0 || outcome.fatal !== undefined) {
      log.warn({ err: outcome.fatal, partitions: groups.length }, 'Kafka gave up this producer; a new one takes over')
      metrics().failed('producer_replaced')
      producer.replace()
    }
    const again: Outcome = { ...outcome, lost: [], fatal: undefined }
    for (const group of outcome.lost) await this.sendGroup(group, again)
    for (const group of again.lost) failAll(group, new Error('out of order under a new producer too'), outcome.failures)
    if (again.lost.length > 0 || again.fatal !== undefined) producer.replace()
    for (const { record, why } of outcome.refused) await this.park(record, why, failures)
  }

  private async sendGroup(group: readonly OutgoingRecord[], outcome: Outcome): Promise<void> {
    // Its fate is as unknown as the first one's, and it would only wait as long again.
    if (outcome.fatal instanceof AbandonedSend) return failAll(group, outcome.fatal, outcome.failures)
    const error = await this.trySend(group)
    if (error === undefined || error.type === 'DUPLICATE_SEQUENCE_NUMBER') return
    if (error.type === 'OUT_OF_ORDER_SEQUENCE_NUMBER') {
      outcome.lost.push([...group])
    } else if (!refusals.has(error.type ?? '')) {
      outcome.fatal = error
      failAll(group, error, outcome.failures)
    } else if (group.length === 1) {
      outcome.refused.push({ record: group[0] as OutgoingRecord, why: error.message })
    } else {
      const half = group.length >> 1
      await this.sendGroup(group.slice(0, half), outcome)
      await this.sendGroup(group.slice(half), outcome)
    }
  }

  private async park(record: OutgoingRecord, why: string, failures: Failures): Promise<void> {
    const { topics, log, metrics } = this.parts
    log.warn(
      { topic: record.topic, bytes: bytesOf(record), why },
      'Kafka refuses a record even alone: parked without its bytes',
    )
    metrics().failed('record_refused')
    const letter =
      record.topic === topics.telemetry
        ? refusedRecord(JSON.parse(String(record.value)) as TelemetryEvent, why)
        : decodeDeadLetter(record.headers ?? {}, null)
    const error =
      typeof letter === 'string'
        ? new Error(letter)
        : await this.trySend([this.address(topics.deadLetter, encodeDeadLetter(letter))])
    if (error !== undefined) failures.set(record, error)
  }

  private async trySend(records: readonly OutgoingRecord[]): Promise<KafkaError | undefined> {
    try {
      await this.parts.producer.send(records)
      return undefined
    } catch (error) {
      return error as KafkaError
    }
  }

  private byLeader(records: readonly OutgoingRecord[]): OutgoingRecord[][] {
    const { layout } = this.parts
    const requests = new Map<number, OutgoingRecord[]>()
    for (const record of records) push(requests, layout.leader(record.topic, record.partition), record)
    return [...requests.values()]
  }
}

type KafkaError = Error & { readonly type?: string }

interface Outcome {
  readonly failures: Failures
  readonly lost: OutgoingRecord[][]
  readonly refused: { readonly record: OutgoingRecord; readonly why: string }[]
  fatal: Error | undefined
}

function byPartition(records: readonly OutgoingRecord[]): OutgoingRecord[][] {
  const groups = new Map<string, OutgoingRecord[]>()
  for (const record of records) push(groups, `${record.topic}/${record.partition}`, record)
  return [...groups.values()]
}

function push<Key>(groups: Map<Key, OutgoingRecord[]>, key: Key, record: OutgoingRecord): void {
  const group = groups.get(key)
  if (group === undefined) groups.set(key, [record])
  else group.push(record)
}

function failAll(group: readonly OutgoingRecord[], error: Error, failures: Failures): void {
  for (const record of group) failures.set(record, error)
}

export function bytesOf({ key, value }: Pick<EncodedRecord, 'key' | 'value'>): number {
  return key.length + (value === null ? 0 : typeof value === 'string' ? Buffer.byteLength(value) : value.length)
}
