import { randomUUID } from 'node:crypto'
import type { KafkaMessage } from 'kafkajs'
import { loadConfig } from '#platform/config.ts'
import type { Config } from '#platform/config-schema.ts'
import { createKafka, retryForEver } from '#platform/kafka-client.ts'
import { createTopics } from '#platform/kafka-topics-admin.ts'
import { silentLog } from '#platform/log.ts'
import { type KafkaTopics, kafkaTopics } from '#schema/kafka-topics.ts'
import type { TelemetryEvent } from '#schema/telemetry-event.ts'
import { freshTopicPrefix } from '#test/servers/fresh.ts'

/** Settings for topics that no other test uses; the topics are not there yet. */
export function kafkaConfig(brokers: string, more: Partial<Config['kafka']> = {}): Config['kafka'] {
  const topicPrefix = freshTopicPrefix()
  const { kafka } = loadConfig({ KAFKA_BROKERS: brokers, BRIDGE_KAFKA_TOPIC_PREFIX: topicPrefix })
  return { ...kafka, group: topicPrefix, ...more }
}

export interface FreshTopics extends KafkaTopics {
  readonly kafka: Config['kafka']
}

/** Topics of our own, as `fleetbridge init` makes them. */
export async function freshTopics(brokers: string, more: Partial<Config['kafka']> = {}): Promise<FreshTopics> {
  const kafka = kafkaConfig(brokers, more)
  await createTopics(kafka, silentLog)
  return { kafka, ...kafkaTopics(kafka.topicPrefix) }
}

export type ReadRecord = KafkaMessage & { readonly partition: number }

/** Every record of a topic, each partition in its order. */
export async function readTopic(brokers: string, topic: string): Promise<ReadRecord[]> {
  const kafka = createKafka(brokers.split(','), 'test-reader', silentLog)
  const admin = kafka.admin()
  await admin.connect()
  let offsets: Awaited<ReturnType<typeof admin.fetchTopicOffsets>> = []
  // A broker that has just started does not lead its partitions yet, which kafkajs' admin takes for an answer.
  await until(`${topic} has leaders`, async () => {
    offsets = await admin.fetchTopicOffsets(topic).catch(() => [])
    return offsets.length > 0
  })
  await admin.disconnect()
  let missing = offsets.reduce((sum, { high, low }) => sum + Number(high) - Number(low), 0)
  if (missing === 0) return []
  const records: ReadRecord[] = []
  const consumer = kafka.consumer({ groupId: `reader-${randomUUID()}`, maxWaitTimeInMs: 100, retry: retryForEver })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${missing} records of ${topic} did not come in 20 s`)), 20_000)
    consumer
      .run({
        autoCommit: false,
        eachMessage: async ({ partition, message }) => {
          records.push({ ...message, partition })
          if (--missing > 0) return
          clearTimeout(timer)
          resolve()
        },
      })
      .catch(reject)
  })
  await consumer.disconnect()
  return records.sort((a, b) => a.partition - b.partition || Number(a.offset) - Number(b.offset))
}

let lastUs = Date.now() * 1000

/** An event with one reading, whose value numbers it. */
export function numberedEvent(device: string, value: number, more: Partial<TelemetryEvent> = {}): TelemetryEvent {
  lastUs = Math.max(lastUs + 1, Date.now() * 1000)
  return {
    v: 1,
    id: randomUUID(),
    tenant: 'default',
    device,
    source: 'mqtt',
    codec: 'generic',
    ingestTimeUs: lastUs,
    readings: [{ metric: 'number', value, eventTimeUs: lastUs }],
    ...more,
  }
}

/** Asks until it is so; fails with what was asked for when it is not within the time. */
export async function until(what: string, ask: () => boolean | Promise<boolean>, withinMs = 20_000): Promise<void> {
  for (const deadline = performance.now() + withinMs; ; ) {
    if (await ask()) return
    if (performance.now() > deadline) throw new Error(`not within ${withinMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
}
