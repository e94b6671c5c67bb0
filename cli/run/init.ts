import { loadConfig } from '#platform/config.ts'
import { BridgeError } from '#platform/errors.ts'
import { metadataMaxAgeMs } from '#platform/kafka-client.ts'
import { createTopics, growTelemetry } from '#platform/kafka-topics-admin.ts'
import { createLog } from '#platform/log.ts'
import { checkSchema, migrate } from '#platform/migrate.ts'
import { checkDatabaseSecret } from '#platform/start-checks.ts'
import type { InitFlags } from '../init.ts'
import { findInstance, withoutPassword } from '../instance.ts'
import { print, printJson } from '../output.ts'

export async function init({ requireReplicas, partitions, json }: InitFlags): Promise<void> {
  const config = loadConfig(process.env)
  checkDatabaseSecret(config)
  const log = createLog('fleetbridge', 'warn') // what was done is printed below
  const databaseUrl = config.database.url ?? findInstance(config.dataDir)?.databaseUrl
  const { brokers } = config.kafka
  if (databaseUrl === undefined && brokers === undefined)
    throw new BridgeError(
      'BRIDGE_CONFIG_INVALID',
      'there is nothing to make: set DATABASE_URL, and KAFKA_BROKERS where there is Kafka. "fleetbridge up" needs neither: it makes its own.',
    )
  if (requireReplicas !== undefined && brokers === undefined)
    throw new BridgeError('BRIDGE_USAGE', '--require-replicas is about Kafka: set KAFKA_BROKERS')
  if (partitions !== undefined && brokers === undefined)
    throw new BridgeError('BRIDGE_USAGE', '--partitions is for the topic in Kafka: set KAFKA_BROKERS')
  const migrations =
    databaseUrl === undefined ? undefined : await migrated(databaseUrl, () => migrate(databaseUrl, log))
  const kafka = { ...config.kafka, partitions: partitions ?? config.kafka.partitions }
  const topics = brokers === undefined ? undefined : await createTopics(kafka, log, requireReplicas)
  const partitionsBefore = partitions === undefined ? undefined : await growTelemetry(kafka, partitions, log)
  if (json)
    return await printJson({
      database: databaseUrl === undefined ? null : withoutPassword(databaseUrl),
      migrations: migrations ?? null,
      topics: topics ?? null,
      partitions:
        partitions === undefined || partitionsBefore === undefined
          ? null
          : { before: partitionsBefore, now: partitions },
    })
  if (databaseUrl !== undefined)
    await print(
      `${withoutPassword(databaseUrl)}: ${migrations === 0 ? 'the tables were up to date' : `${migrations} migration(s) applied`}`,
    )
  else await print('no DATABASE_URL: "fleetbridge up" makes the tables of its own Postgres')
  if (topics !== undefined)
    await print(`${brokers}: ${topics.length === 0 ? 'the topics were there' : `made ${topics.join(', ')}`}`)
  if (partitions !== undefined && partitionsBefore !== undefined)
    await print(
      partitionsBefore === partitions
        ? `the telemetry topic has ${partitions} partitions`
        : `the telemetry topic had ${partitionsBefore} partitions and has ${partitions} now; gateways and workers use them within ${metadataMaxAgeMs / 1000} s`,
    )
}

/** @returns how many migrations were pending */
async function migrated(databaseUrl: string, apply: () => Promise<void>): Promise<number> {
  let pending = 0
  try {
    await checkSchema(databaseUrl)
  } catch (error) {
    if (!(error instanceof BridgeError) || error.code !== 'BRIDGE_SCHEMA_MISSING') throw error
    pending = Number(error.details.pending)
  }
  await apply()
  return pending
}
