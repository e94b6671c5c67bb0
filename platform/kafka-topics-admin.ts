import { setTimeout as sleep } from 'node:timers/promises'
import kafkajs, { type Admin, type ITopicConfig, type ITopicMetadata, type PartitionMetadata } from 'kafkajs'
import { kafkaTopics } from '#schema/kafka-topics.ts'
import type { Config } from './config-schema.ts'
import { BridgeError } from './errors.ts'
import { createKafka } from './kafka-client.ts'
import { fetchTopicIds } from './kafka-topic-ids.ts'
import type { Log } from './log.ts'

/** What Kafka said of our topics. */
export interface CheckedTopics {
  /** `replicated`: two brokers at least hold every record before it is acknowledged. */
  readonly ackLevel: 'replicated' | 'single-copy'
  /** Kafka topic → name of its stream in ingest_offset: cluster, topic and the topic's id, so that a topic made again starts anew. */
  readonly streams: ReadonlyMap<string, string>
  /** Kafka topic → its partitions and their leaders at that moment. */
  readonly partitions: ReadonlyMap<string, readonly PartitionMetadata[]>
}

/** A dead letter carries the message's bytes (1 MiB by default) and a record of telemetry may be larger than the message was. */
export const maxTopicMessageBytes = 4 * 1024 * 1024
/** Dead letters and device events are few; each partition costs every fetch a little. */
const sidePartitions = 3
const leadersMs = 10_000
const notYet = new Set(['UNKNOWN_TOPIC_OR_PARTITION', 'LEADER_NOT_AVAILABLE'])
const attempts = { initialRetryTime: 100, maxRetryTime: 500, retries: 6 }

/**
 * Makes the topics that are missing. Those that exist stay as they are: partitions are added by an operator's decision only.
 * @param requireReplicas least number of copies; from 2 on, of those two at least must have a record before it is acknowledged
 * @returns names of the topics that were made
 * @throws BridgeError BRIDGE_EVENT_LOG_UNAVAILABLE when Kafka does not answer; BRIDGE_REPLICAS_MISSING, and then nothing was made
 */
export async function createTopics(kafka: Config['kafka'], log: Log, requireReplicas = 1): Promise<readonly string[]> {
  return await withAdmin(kafka, log, async (admin) => {
    const { brokers } = await admin.describeCluster()
    const existing = new Set(await admin.listTopics())
    const configs = topicConfigs(kafka, brokers.length, requireReplicas)
    const old = configs.map(({ topic }) => topic).filter((topic) => existing.has(topic))
    await needReplicas(admin, { brokers: brokers.length, existing: old, least: requireReplicas })
    const made: string[] = []
    for (const topic of configs) {
      // One by one: kafkajs reports a mixed outcome of several as a failure of all.
      if (existing.has(topic.topic)) continue
      // Without its wait for leaders, which gives up on a KRaft broker that has not heard of the topic yet.
      if (await admin.createTopics({ topics: [topic], waitForLeaders: false })) made.push(topic.topic)
    }
    await waitForLeaders(admin, made)
    if (made.length > 0) log.info({ topics: made, brokers: brokers.length }, 'Kafka topics made')
    return made
  })
}

async function needReplicas(
  admin: Admin,
  { brokers, existing, least }: { brokers: number; existing: readonly string[]; least: number },
): Promise<void> {
  if (least <= 1) return
  const problems: string[] = []
  if (brokers < least) problems.push(`the cluster has ${brokers} broker(s)`)
  if (existing.length > 0) {
    const { topics } = await admin.fetchTopicMetadata({ topics: [...existing] })
    for (const topic of topics)
      if (copies(topic) < least) problems.push(`${topic.name} has partitions of ${copies(topic)} cop(ies)`)
    for (const topic of existing)
      if ((await minInSyncReplicas(admin, [topic])) < 2) problems.push(`${topic} has min.insync.replicas 1`)
  }
  if (problems.length === 0) return
  throw new BridgeError(
    'BRIDGE_REPLICAS_MISSING',
    `${least} replicas are required, and ${problems.join('; ')}. No topic was made. Add brokers, change the topics by kafka-reassign-partitions.sh and kafka-configs.sh, or require less.`,
    { details: { brokers, required: least } },
  )
}

/**
 * Adds partitions to the telemetry topic. Gateways and workers see them within {@link metadataMaxAgeMs}; a device whose key moves goes on in its
 * new partition, and what it sent before stays where it is.
 * @returns how many there were
 * @throws BridgeError BRIDGE_USAGE when there are more already, since Kafka takes none away; BRIDGE_EVENT_LOG_UNAVAILABLE when it does not answer
 */
export async function growTelemetry(kafka: Config['kafka'], partitions: number, log: Log): Promise<number> {
  const { telemetry: topic } = kafkaTopics(kafka.topicPrefix)
  return await withAdmin(kafka, log, async (admin) => {
    const before = (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0]?.partitions.length ?? 0
    if (before > partitions)
      throw new BridgeError(
        'BRIDGE_USAGE',
        `${topic} has ${before} partitions already, and Kafka takes none away: --partitions ${before} or more`,
      )
    if (before === partitions) return before
    await admin.createPartitions({ topicPartitions: [{ topic, count: partitions }] })
    await waitForLeaders(admin, [topic], partitions)
    return before
  })
}

async function waitForLeaders(admin: Admin, names: readonly string[], partitionsAtLeast = 1): Promise<void> {
  for (const deadline = Date.now() + leadersMs; !(await haveLeaders(admin, names, partitionsAtLeast)); await sleep(50))
    if (Date.now() > deadline) throw new Error(`the new topics or partitions have no leaders after ${leadersMs} ms`)
}

/** Each question may go to another broker, and one hears of a new topic later than the next. */
async function haveLeaders(admin: Admin, names: readonly string[], partitionsAtLeast: number): Promise<boolean> {
  const existing = new Set(await admin.listTopics())
  if (!names.every((name) => existing.has(name))) return false
  try {
    const { topics } = await admin.fetchTopicMetadata({ topics: [...names] })
    return topics.every(
      ({ partitions }) => partitions.length >= partitionsAtLeast && partitions.every(({ leader }) => leader >= 0),
    )
  } catch (error) {
    const { type, cause } = error as { type?: string; cause?: { type?: string } }
    if (notYet.has(type ?? cause?.type ?? '')) return false
    throw error
  }
}

function topicConfigs(
  { topicPrefix, partitions, retentionHours }: Config['kafka'],
  brokers: number,
  requireReplicas: number,
): ITopicConfig[] {
  const { telemetry, deadLetter, deviceEvent } = kafkaTopics(topicPrefix)
  const configEntries = [
    { name: 'cleanup.policy', value: 'delete' },
    { name: 'retention.ms', value: String(retentionHours * 3_600_000) },
    { name: 'max.message.bytes', value: String(maxTopicMessageBytes) },
    ...(brokers >= 3 || requireReplicas >= 2 ? [{ name: 'min.insync.replicas', value: '2' }] : []),
  ]
  const configOf = (topic: string, numPartitions: number): ITopicConfig => ({
    topic,
    numPartitions,
    replicationFactor: Math.max(Math.min(3, brokers), requireReplicas),
    configEntries,
  })
  const side = Math.min(partitions, sidePartitions)
  return [configOf(telemetry, partitions), configOf(deadLetter, side), configOf(deviceEvent, side)]
}

/**
 * Looks at the topics without changing anything.
 * @throws BridgeError BRIDGE_TOPICS_MISSING when Kafka answers without them; BRIDGE_EVENT_LOG_UNAVAILABLE when it does not answer
 */
export async function checkTopics(kafka: Config['kafka'], log: Log): Promise<CheckedTopics> {
  const names = Object.values(kafkaTopics(kafka.topicPrefix))
  return await withAdmin(kafka, log, async (admin) => {
    const existing = new Set(await admin.listTopics())
    const missing = names.filter((name) => !existing.has(name))
    if (missing.length > 0) {
      const list = missing.join(', ')
      throw new BridgeError('BRIDGE_TOPICS_MISSING', `Kafka has no topic ${list}; make them by: npx fleetbridge init`, {
        details: { topics: list, brokers: brokersOf(kafka).join(',') },
      })
    }
    const { topics } = await admin.fetchTopicMetadata({ topics: names })
    const [streams, minInSync] = await Promise.all([streamNames(kafka, admin, names), minInSyncReplicas(admin, names)])
    return {
      ackLevel: topics.every((topic) => copies(topic) >= 2) && minInSync >= 2 ? 'replicated' : 'single-copy',
      streams,
      partitions: new Map(topics.map(({ name, partitions }) => [name, partitions])),
    }
  })
}

function copies({ partitions }: ITopicMetadata): number {
  return Math.min(...partitions.map(({ replicas }) => replicas.length))
}

/** The effective value, also where the topic leaves it to the broker. */
async function minInSyncReplicas(admin: Admin, names: readonly string[]): Promise<number> {
  const configNames = ['min.insync.replicas']
  const resources = names.map((name) => ({ type: kafkajs.ConfigResourceTypes.TOPIC, name, configNames }))
  const described = await admin.describeConfigs({ includeSynonyms: false, resources })
  return Math.min(
    ...described.resources.map(({ configEntries }) => Number(configEntries.find(isMinInSync)?.configValue ?? 1)),
  )
}

const isMinInSync = ({ configName }: { configName: string }) => configName === 'min.insync.replicas'

/**
 * Without an id from the broker (before Kafka 3.0) the stream is cluster and topic alone: a topic made again is then noticed only
 * when a stored offset lies outside of it.
 */
async function streamNames(
  kafka: Config['kafka'],
  admin: Admin,
  names: readonly string[],
): Promise<Map<string, string>> {
  const { clusterId } = await admin.describeCluster()
  const ids = await topicIds(kafka, names)
  return new Map(
    names.map((name) => {
      const id = ids?.get(name)
      return [name, id === undefined ? `${clusterId}/${name}` : `${clusterId}/${name}/${id}`]
    }),
  )
}

/** From the first broker that answers; none answering is a failure, not an absence, or a stream's name would flap. */
async function topicIds(
  kafka: Config['kafka'],
  names: readonly string[],
): Promise<ReadonlyMap<string, string> | undefined> {
  let failure: unknown
  for (const broker of brokersOf(kafka)) {
    try {
      const ids = await fetchTopicIds(broker, names)
      if (ids === undefined || names.every((name) => ids.has(name))) return ids
      failure = new Error(`${broker} does not know all topics yet`)
    } catch (error) {
      failure = error
    }
  }
  throw failure
}

async function withAdmin<T>(kafka: Config['kafka'], log: Log, use: (admin: Admin) => Promise<T>): Promise<T> {
  const brokers = brokersOf(kafka)
  const admin = createKafka(brokers, 'fleetbridge-admin', log, attempts).admin()
  try {
    await admin.connect()
    return await use(admin)
  } catch (error) {
    if (error instanceof BridgeError) throw error
    const message = `Kafka at ${brokers.join(', ')} does not answer: ${(error as Error).message}`
    throw new BridgeError('BRIDGE_EVENT_LOG_UNAVAILABLE', message, { cause: error })
  } finally {
    await admin.disconnect().catch(() => undefined)
  }
}

function brokersOf({ brokers }: Config['kafka']): readonly string[] {
  if (brokers === undefined) throw new BridgeError('BRIDGE_CONFIG_INVALID', 'KAFKA_BROKERS is not set')
  return brokers
}
