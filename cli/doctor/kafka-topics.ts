import kafkajs, { type Admin, type PartitionMetadata } from 'kafkajs'
import type { Config } from '#platform/config-schema.ts'
import { maxTopicMessageBytes } from '#platform/kafka-topics-admin.ts'
import { kafkaTopics } from '#schema/kafka-topics.ts'
import { type Check, type Finding, fail, ok, warn } from './check.ts'

/** One topic as Kafka has it. */
interface Topic {
  readonly name: string
  readonly partitions: readonly PartitionMetadata[]
  readonly settings: ReadonlyMap<string, string>
}

const watched = ['min.insync.replicas', 'max.message.bytes', 'retention.ms', 'retention.bytes', 'cleanup.policy']

export const topics: Check = {
  name: 'kafka topics',
  async run({ config, kafka }) {
    if (config.kafka.brokers === undefined) return [ok('not used: no KAFKA_BROKERS')]
    const admin = await kafka()
    const names = Object.values(kafkaTopics(config.kafka.topicPrefix))
    const existing = new Set(await admin.listTopics())
    const missing = names.filter((name) => !existing.has(name))
    const findings: Finding[] = []
    if (missing.length > 0) findings.push(fail(`missing: ${missing.join(', ')}`, undefined, 'npx fleetbridge init'))
    for (const topic of await describe(
      admin,
      names.filter((name) => existing.has(name)),
    ))
      findings.push(...look(topic, config.kafka))
    return findings
  },
}

async function describe(admin: Admin, names: readonly string[]): Promise<Topic[]> {
  if (names.length === 0) return []
  const resources = names.map((name) => ({ type: kafkajs.ConfigResourceTypes.TOPIC, name, configNames: watched }))
  const [metadata, described] = await Promise.all([
    admin.fetchTopicMetadata({ topics: [...names] }),
    admin.describeConfigs({ includeSynonyms: false, resources }),
  ])
  // Kafka answers in an order of its own.
  const topics = metadata.topics.sort((one, other) => names.indexOf(one.name) - names.indexOf(other.name))
  return topics.map(({ name, partitions }) => {
    const entries = described.resources.find(({ resourceName }) => resourceName === name)?.configEntries ?? []
    return {
      name,
      partitions,
      settings: new Map(entries.map(({ configName, configValue }) => [configName, configValue])),
    }
  })
}

/** One line when all is well, else one for each thing that is not. */
function look(topic: Topic, kafka: Config['kafka']): Finding[] {
  const problems = [...replicaProblems(topic), ...settingProblems(topic, kafka), ...partitionProblems(topic, kafka)]
  if (problems.length > 0) return problems
  const { partitions, settings, name } = topic
  return [
    ok(
      `${name}: ${partitions.length} partition(s), ${copiesOf(topic)} cop${copiesOf(topic) === 1 ? 'y' : 'ies'}, ` +
        `min.insync.replicas ${settings.get('min.insync.replicas')}, kept ${hours(settings.get('retention.ms'))}`,
    ),
  ]
}

function replicaProblems(topic: Topic): Finding[] {
  const { name, partitions, settings } = topic
  const minInSync = Number(settings.get('min.insync.replicas') ?? 1)
  const findings: Finding[] = []
  const leaderless = partitions.filter(({ leader }) => leader < 0)
  if (leaderless.length > 0)
    findings.push(
      fail(`${name}: partition ${listed(leaderless)} has no leader`, 'The brokers that hold it are away: start them.'),
    )
  const refusing = partitions.filter(({ isr, leader }) => leader >= 0 && isr.length < minInSync)
  const behind = partitions.filter(({ isr, replicas }) => isr.length >= minInSync && isr.length < replicas.length)
  if (refusing.length > 0)
    findings.push(
      fail(
        `${name}: partition ${listed(refusing)} takes nothing: fewer copies are in sync than min.insync.replicas (${minInSync}) asks for`,
        'Start the missing brokers, or wait until they have caught up.',
      ),
    )
  if (behind.length > 0)
    findings.push(warn(`${name}: partition ${listed(behind)} has copies that are behind`, 'A broker is away or slow.'))
  if (copiesOf(topic) >= 2 && minInSync < 2)
    findings.push(
      warn(
        `${name}: ${copiesOf(topic)} copies, but min.insync.replicas is ${minInSync}: a record that one broker alone has is acknowledged`,
        undefined,
        alter(name, 'min.insync.replicas=2'),
      ),
    )
  return findings
}

function settingProblems({ name, settings }: Topic, kafka: Config['kafka']): Finding[] {
  const findings: Finding[] = []
  const policy = settings.get('cleanup.policy') ?? 'delete'
  if (policy !== 'delete')
    findings.push(
      fail(
        `${name}: cleanup.policy is ${policy}: older records of a device would vanish`,
        undefined,
        alter(name, 'cleanup.policy=delete'),
      ),
    )
  const largest = Number(settings.get('max.message.bytes') ?? 0)
  if (largest < maxTopicMessageBytes)
    findings.push(
      warn(
        `${name}: max.message.bytes is ${largest}, and large messages with their names need up to ${maxTopicMessageBytes}: they are parked without their bytes`,
        undefined,
        alter(name, `max.message.bytes=${maxTopicMessageBytes}`),
      ),
    )
  const keptMs = Number(settings.get('retention.ms') ?? -1)
  const wantedMs = kafka.retentionHours * 3_600_000
  if (keptMs >= 0 && keptMs < wantedMs)
    findings.push(
      warn(
        `${name}: records are kept ${hours(String(keptMs))}, and BRIDGE_KAFKA_RETENTION_HOURS says ${kafka.retentionHours} h`,
        undefined,
        alter(name, `retention.ms=${wantedMs}`),
      ),
    )
  const keptBytes = Number(settings.get('retention.bytes') ?? -1)
  if (keptBytes >= 0)
    findings.push(
      warn(
        `${name}: retention.bytes is ${keptBytes}: at high rates records go before their time, also unread ones`,
        undefined,
        alter(name, 'retention.bytes=-1'),
      ),
    )
  return findings
}

function partitionProblems({ name, partitions }: Topic, kafka: Config['kafka']): Finding[] {
  if (name !== kafkaTopics(kafka.topicPrefix).telemetry || partitions.length >= kafka.partitions) return []
  return [
    warn(
      `${name}: ${partitions.length} partition(s), and BRIDGE_KAFKA_PARTITIONS says ${kafka.partitions}: that many workers at most can share the work`,
      'Adding some is safe while everything runs.',
      `kafka-topics.sh --bootstrap-server ${kafka.brokers?.[0]} --alter --topic ${name} --partitions ${kafka.partitions}`,
    ),
  ]
}

function alter(name: string, setting: string): string {
  return `kafka-configs.sh --bootstrap-server "$KAFKA_BROKERS" --alter --entity-type topics --entity-name ${name} --add-config ${setting}`
}

function copiesOf({ partitions }: Topic): number {
  return Math.min(...partitions.map(({ replicas }) => replicas.length))
}

function listed(partitions: readonly PartitionMetadata[]): string {
  return partitions.map(({ partitionId }) => partitionId).join(', ')
}

function hours(ms: string | undefined): string {
  return ms === undefined || Number(ms) < 0 ? 'for ever' : `${Number((Number(ms) / 3_600_000).toFixed(2))} h`
}
