import type { Admin } from 'kafkajs'
import { expect, inject, it, onTestFinished, vi } from 'vitest'
import { createKafka } from '#platform/kafka-client.ts'
import { createTopics } from '#platform/kafka-topics-admin.ts'
import { silentLog } from '#platform/log.ts'
import { kafkaTopics } from '#schema/kafka-topics.ts'
import { kafkaConfig } from '#test/kafka/topics.ts'
import { freshTopicPrefix } from '#test/servers/fresh.ts'
import { acknowledgement } from './acknowledgement.ts'
import { findingsOf, shortened } from './context.fixture.ts'
import { kafkaBrokers } from './kafka-brokers.ts'
import { topics } from './kafka-topics.ts'
import { unread } from './kafka-unread.ts'

vi.setConfig({ testTimeout: 60_000 })

const brokers = inject('kafkaBrokers')
const hourMs = 3_600_000

it('kafka: those that answer, those that do not, and none', async () => {
  expect(shortened(await findingsOf(kafkaBrokers, { KAFKA_BROKERS: brokers }))).toEqual([
    expect.stringMatching(/^ok: 1 of 1 in KAFKA_BROKERS answer; the cluster has 1 broker/),
  ])
  expect(shortened(await findingsOf(kafkaBrokers, { KAFKA_BROKERS: `${brokers},127.0.0.1:1` }))).toEqual([
    expect.stringMatching(/^ok: 1 of 2/),
    expect.stringMatching(/^warn: these do not answer: 127\.0\.0\.1:1 \(.*ECONNREFUSED/),
  ])
  expect(shortened(await findingsOf(kafkaBrokers, { KAFKA_BROKERS: '127.0.0.1:1' }))).toEqual([
    expect.stringMatching(/^fail: no broker answers/),
  ])
})

it('kafka topics: missing, as init makes them, made by somebody else', async () => {
  const prefix = freshTopicPrefix()
  const env = { KAFKA_BROKERS: brokers, BRIDGE_KAFKA_TOPIC_PREFIX: prefix }
  expect(await findingsOf(topics, env)).toMatchObject([{ verdict: 'fail', line: 'npx fleetbridge init' }])
  const kafka = { ...kafkaConfig(brokers, { partitions: 12, retentionHours: 168 }), topicPrefix: prefix }
  await createTopics(kafka, silentLog)
  const made = await findingsOf(topics, env)
  expect(made.map(({ verdict }) => verdict)).toEqual(['ok', 'ok', 'ok'])
  expect(made[0]?.seen).toMatch(/12 partition\(s\), 1 copy, min\.insync\.replicas 1, kept 168 h/)
  expect(await findingsOf(acknowledgement, env)).toMatchObject([
    {
      verdict: 'warn',
      seen: expect.stringContaining('single-copy'),
      line: 'npx fleetbridge init --require-replicas 3',
    },
  ])

  const foreign = freshTopicPrefix()
  const { telemetry, deadLetter } = kafkaTopics(foreign)
  const admin = await connected()
  await admin.createTopics({
    topics: [
      {
        topic: telemetry,
        numPartitions: 2,
        replicationFactor: 1,
        configEntries: [
          { name: 'cleanup.policy', value: 'compact' },
          { name: 'max.message.bytes', value: '1000' },
          { name: 'retention.ms', value: String(hourMs) },
          { name: 'retention.bytes', value: '1000000' },
        ],
      },
    ],
  })
  const found = shortened(await findingsOf(topics, { ...env, BRIDGE_KAFKA_TOPIC_PREFIX: foreign }))
  expect(found).toEqual([
    expect.stringMatching(new RegExp(`^fail: missing: ${deadLetter}, `)),
    expect.stringMatching(/^fail: .* cleanup\.policy is compact.*--add-config cleanup\.policy=delete/),
    expect.stringMatching(/^warn: .* max\.message\.bytes is 1000,.*max\.message\.bytes=4194304/),
    expect.stringMatching(/^warn: .* kept 1 h, and BRIDGE_KAFKA_RETENTION_HOURS says 168 h.*retention\.ms=604800000/),
    expect.stringMatching(/^warn: .* retention\.bytes is 1000000/),
    expect.stringMatching(/^warn: .* 2 partition\(s\), and BRIDGE_KAFKA_PARTITIONS says 12.*--partitions 12/),
  ])
})

it('kafka unread: nothing, some that is fresh, some for more than half of the retention, some that is gone', async () => {
  const prefix = freshTopicPrefix()
  const group = `${prefix}-group`
  const { telemetry } = kafkaTopics(prefix)
  const env = { KAFKA_BROKERS: brokers, BRIDGE_KAFKA_TOPIC_PREFIX: prefix, BRIDGE_KAFKA_GROUP: group }
  expect(shortened(await findingsOf(unread, env))).toEqual(['ok: no topics yet'])
  await createTopics(
    { ...kafkaConfig(brokers, { partitions: 1, retentionHours: 168 }), topicPrefix: prefix },
    silentLog,
  )
  const ofTelemetry = async () => shortened(await findingsOf(unread, env)).find((text) => text.includes(telemetry))
  expect(await ofTelemetry()).toBe(`ok: ${telemetry}: 0 record(s) wait for ${group}`)

  const producer = createKafka(brokers.split(','), 'test', silentLog).producer()
  await producer.connect()
  onTestFinished(() => producer.disconnect())
  const send = (hoursAgo: number) =>
    producer.send({ topic: telemetry, messages: [{ value: '{}', timestamp: String(Date.now() - hoursAgo * hourMs) }] })
  const admin = await connected()
  const read = (offset: number) =>
    admin.setOffsets({ groupId: group, topic: telemetry, partitions: [{ partition: 0, offset: String(offset) }] })
  await send(100)
  expect(await ofTelemetry()).toMatch(
    /^warn: .*1 record\(s\) wait.* for more than half of the 168 h.*retention\.ms=1209600000/,
  )
  await read(1)
  await send(10)
  expect(await ofTelemetry()).toBe(`ok: ${telemetry}: 1 record(s) wait for ${group}`)
  await admin.deleteTopicRecords({ topic: telemetry, partitions: [{ partition: 0, offset: '2' }] })
  expect(await ofTelemetry()).toMatch(/^fail: .*records of partition 0 were deleted before/)
})

async function connected(): Promise<Admin> {
  const admin = createKafka(brokers.split(','), 'test', silentLog).admin()
  await admin.connect()
  onTestFinished(() => admin.disconnect())
  return admin
}
