import type { Admin } from 'kafkajs'
import { topicRetentionMs } from '#platform/kafka-retention.ts'
import { kafkaTopics, workerGroup } from '#schema/kafka-topics.ts'
import { type Check, type Finding, fail, ok, warn } from './check.ts'

/** How much of the retention lies unread before our group: past it, records are deleted that never became rows. */
export const unread: Check = {
  name: 'kafka unread',
  async run({ config, kafka, now }) {
    if (config.kafka.brokers === undefined) return [ok('not used: no KAFKA_BROKERS')]
    const admin = await kafka()
    const group = workerGroup(config.kafka)
    const { telemetry, deadLetter } = kafkaTopics(config.kafka.topicPrefix)
    const existing = new Set(await admin.listTopics())
    const topics = [telemetry, deadLetter].filter((topic) => existing.has(topic))
    if (topics.length === 0) return [ok('no topics yet')]
    const committed = await admin.fetchOffsets({ groupId: group, topics })
    return await Promise.all(
      committed.map(({ topic, partitions }) => look(admin, { topic, group, partitions, now: now() })),
    )
  },
}

interface Question {
  readonly topic: string
  readonly group: string
  /** As the group committed them; -1 where it never did. */
  readonly partitions: readonly { partition: number; offset: string }[]
  readonly now: number
}

async function look(admin: Admin, { topic, group, partitions, now }: Question): Promise<Finding> {
  const [bounds, retentionMs] = await Promise.all([admin.fetchTopicOffsets(topic), topicRetentionMs(admin, topic)])
  const committed = new Map(partitions.map(({ partition, offset }) => [partition, Number(offset)]))
  const next = new Map(
    bounds.map(({ partition, low }) => {
      const offset = committed.get(partition) ?? -1
      return [partition, offset < 0 ? Number(low) : offset]
    }),
  )
  const lost = bounds.filter(({ partition, low }) => (next.get(partition) as number) < Number(low))
  if (lost.length > 0)
    return fail(
      `${topic}: records of partition ${lost.map(({ partition }) => partition).join(', ')} were deleted before ${group} had read them`,
      'docs/runbook.md, "A partition is stopped", says how to go on.',
    )
  const lag = bounds.reduce(
    (sum, { partition, high }) => sum + Math.max(0, Number(high) - (next.get(partition) as number)),
    0,
  )
  if (lag === 0 || retentionMs === undefined) return ok(`${topic}: ${lag} record(s) wait for ${group}`)
  const half = await admin.fetchTopicOffsetsByTimestamp(topic, Math.round(now - retentionMs / 2))
  const isOld = half.some(({ partition, offset }) => (next.get(partition) as number) < Number(offset))
  const seen = `${topic}: ${lag} record(s) wait for ${group}`
  if (!isOld) return ok(seen)
  return warn(
    `${seen}, some of them for more than half of the ${Math.round(retentionMs / 360_000) / 10} h that Kafka keeps them`,
    'Start workers, or mend what holds them up, before the rest of that time is over; more time until then:',
    `kafka-configs.sh --bootstrap-server "$KAFKA_BROKERS" --alter --entity-type topics --entity-name ${topic} --add-config retention.ms=${retentionMs * 2}`,
  )
}
