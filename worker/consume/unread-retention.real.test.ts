import { expect, inject, it, onTestFinished } from 'vitest'
import { createKafka } from '#platform/kafka-client.ts'
import { silentLog } from '#platform/log.ts'
import { freshTopics } from '#test/kafka/topics.ts'
import type { Position } from './positions.ts'
import { TopicAdmin } from './topic-admin.ts'
import { unreadRetention } from './unread-retention.ts'

const brokers = inject('kafkaBrokers')
const hourMs = 3_600_000

it('tells by what Kafka holds how long the oldest unread record has waited', async () => {
  const { kafka, telemetry: topic } = await freshTopics(brokers, { partitions: 1, retentionHours: 100 })
  const producer = createKafka(brokers.split(','), 'test', silentLog).producer()
  await producer.connect()
  onTestFinished(() => producer.disconnect())
  const now = Date.now()
  for (const hoursAgo of [80, 60, 10])
    await producer.send({ topic, messages: [{ value: '{}', timestamp: String(now - hoursAgo * hourMs) }] })
  const admin = new TopicAdmin(kafka, silentLog)
  onTestFinished(() => admin.close())
  expect(await admin.retentionMs(topic)).toBe(100 * hourMs)
  expect((await admin.offsetsAt(topic, now - 70 * hourMs)).get(0)).toBe(1)
  const ratio = (stored: number) => {
    const position: Position = {
      topic,
      partition: 0,
      stream: 's',
      holds: 'telemetry',
      next: stored,
      stored,
      low: 0,
      high: 3,
      stopped: undefined,
    }
    return unreadRetention([position], admin, now)
  }
  expect([await ratio(0), await ratio(1), await ratio(2), await ratio(3)]).toEqual([0.75, 0.5, 0, 0])
})
