import kafkajs from 'kafkajs'
import { expect, inject, it } from 'vitest'
import { kafkaTopics } from '#schema/kafka-topics.ts'
import { kafkaConfig } from '#test/kafka/topics.ts'
import { createKafka } from './kafka-client.ts'
import { checkTopics, createTopics } from './kafka-topics-admin.ts'
import { silentLog } from './log.ts'

const brokers = inject('kafkaBrokers')

it('makes what is missing, changes nothing that exists, and checks', async () => {
  const kafka = kafkaConfig(brokers, { partitions: 5, retentionHours: 3 })
  const { telemetry, deadLetter, deviceEvent } = kafkaTopics(kafka.topicPrefix)
  await expect(checkTopics(kafka, silentLog)).rejects.toMatchObject({ code: 'BRIDGE_TOPICS_MISSING' })
  expect(await createTopics(kafka, silentLog)).toEqual([telemetry, deadLetter, deviceEvent])
  expect(await createTopics({ ...kafka, partitions: 9 }, silentLog)).toEqual([])
  const { partitions, streams, ackLevel } = await checkTopics(kafka, silentLog)
  expect([partitions.get(telemetry)?.length, partitions.get(deadLetter)?.length]).toEqual([5, 3])
  expect(streams.get(telemetry)).toMatch(new RegExp(`^[\\w-]{22}/${telemetry}/[0-9a-f]{32}$`))
  expect(ackLevel, 'the tests have one broker').toBe('single-copy')

  const admin = createKafka(brokers.split(','), 'test', silentLog).admin()
  await admin.connect()
  const resource = { type: kafkajs.ConfigResourceTypes.TOPIC, name: telemetry }
  const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [resource] })
  const settings = new Map(resources[0]?.configEntries.map(({ configName, configValue }) => [configName, configValue]))
  expect(settings.get('max.message.bytes')).toBe('4194304')
  expect(settings.get('retention.ms')).toBe('10800000')

  await admin.deleteTopics({ topics: [telemetry] })
  await expect.poll(() => admin.listTopics(), { timeout: 5000 }).not.toContain(telemetry)
  await expect.poll(() => createTopics(kafka, silentLog), { timeout: 5000 }).toEqual([telemetry])
  await admin.disconnect()
  const again = await checkTopics(kafka, silentLog)
  expect(again.streams.get(telemetry), 'a topic made again is another stream').not.toBe(streams.get(telemetry))
  expect(again.streams.get(deadLetter)).toBe(streams.get(deadLetter))
})

it('says that Kafka does not answer, and where', async () => {
  const kafka = { ...kafkaConfig(brokers), brokers: ['127.0.0.1:1'] }
  const failure = { code: 'BRIDGE_EVENT_LOG_UNAVAILABLE', message: expect.stringContaining('127.0.0.1:1') }
  await expect(checkTopics(kafka, silentLog)).rejects.toMatchObject(failure)
  await expect(createTopics(kafka, silentLog)).rejects.toMatchObject(failure)
})
