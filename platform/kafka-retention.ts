import kafkajs, { type Admin } from 'kafkajs'

/** How long Kafka keeps a topic's records, in milliseconds; undefined for ever. The effective value, also where it is the broker's. */
export async function topicRetentionMs(admin: Admin, topic: string): Promise<number | undefined> {
  const resource = { type: kafkajs.ConfigResourceTypes.TOPIC, name: topic, configNames: ['retention.ms'] }
  const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [resource] })
  const value = Number(resources[0]?.configEntries.find(({ configName }) => configName === 'retention.ms')?.configValue)
  return Number.isFinite(value) && value >= 0 ? value : undefined
}
