import type { Producer } from 'kafkajs'
import type { Config } from '#platform/config-schema.ts'
import { handleOf } from '#platform/handle.ts'
import { createKafka, metadataMaxAgeMs } from '#platform/kafka-client.ts'
import type { Log } from '#platform/log.ts'
import type { DeviceEventRecord } from '#schema/device-event.ts'
import { encodeDeviceEvent } from '#schema/device-event-record.ts'
import { kafkaTopics } from '#schema/kafka-topics.ts'
import type { DeviceEventWriter } from './device-event-writer.ts'

/** Gives up soon: who calls tries again, with what has come meanwhile. */
const attempts = { initialRetryTime: 100, maxRetryTime: 500, retries: 2 }
const acknowledgeMs = 4000
const disconnectMs = 2000

/** A producer of its own, so that device events never stand before telemetry. Not idempotent: readers know a record that comes twice. */
export function createKafkaDeviceEvents(kafka: Config['kafka'], log: Log): DeviceEventWriter {
  const client = createKafka(kafka.brokers ?? [], 'fleetbridge-gateway-events', log, attempts)
  const { deviceEvent: topic } = kafkaTopics(kafka.topicPrefix)
  let current: Promise<Producer> | undefined

  async function connect(): Promise<Producer> {
    const producer = client.producer({
      allowAutoTopicCreation: false,
      metadataMaxAge: metadataMaxAgeMs,
      retry: attempts,
    })
    try {
      await producer.connect()
      return producer
    } catch (error) {
      await producer.disconnect().catch(() => undefined)
      throw error
    }
  }

  async function letGo(): Promise<void> {
    const old = current
    current = undefined
    const ended = old?.then((producer) => producer.disconnect()).catch(() => undefined)
    await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, disconnectMs).unref())])
  }

  return {
    async write(records: readonly DeviceEventRecord[]) {
      current ??= connect()
      try {
        const producer = await current
        const messages = records.map((record) => {
          const { key, value, headers, timestampMs } = encodeDeviceEvent(record)
          return { key, value, headers: headers as Record<string, string>, timestamp: String(timestampMs) }
        })
        await producer.send({ topic, acks: -1, timeout: acknowledgeMs, messages })
      } catch (error) {
        void letGo() // kafkajs does not always come back by itself
        throw error
      }
    },
    ...handleOf(letGo),
  }
}
