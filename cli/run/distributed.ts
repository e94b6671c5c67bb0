import { loadConfig } from '#platform/config.ts'
import type { Config } from '#platform/config-schema.ts'
import { BridgeError } from '#platform/errors.ts'
import type { Log } from '#platform/log.ts'
import { checkSchema } from '#platform/migrate.ts'
import { withoutPassword } from '../instance.ts'

/** The configuration of a process that shares Kafka and Postgres with others. @throws BridgeError BRIDGE_CONFIG_INVALID that names `up` */
export function distributedConfig(command: 'gateway' | 'worker'): { config: Config; databaseUrl: string } {
  const config = loadConfig(process.env)
  const databaseUrl = config.database.url
  const missing = [
    ...(config.kafka.brokers === undefined ? ['KAFKA_BROKERS'] : []),
    ...(databaseUrl === undefined ? ['DATABASE_URL'] : []),
  ]
  if (missing.length === 0) return { config, databaseUrl: databaseUrl as string }
  throw new BridgeError(
    'BRIDGE_CONFIG_INVALID',
    `"fleetbridge ${command}" needs ${missing.join(' and ')}: gateways and workers meet in Kafka and Postgres. ` +
      'Set them, or run "fleetbridge up" (npm start), which needs neither.',
  )
}

/**
 * A database that is away now is no reason not to start: Kafka holds what devices send. One without our tables is.
 * @throws BridgeError BRIDGE_SCHEMA_MISSING, BRIDGE_SCHEMA_NEWER
 */
export async function needSchema(databaseUrl: string, log: Log): Promise<void> {
  try {
    await checkSchema(databaseUrl, log)
  } catch (error) {
    if (error instanceof BridgeError) throw error
    log.warn(
      { err: error, database: withoutPassword(databaseUrl) },
      'the database does not answer; starting without it',
    )
  }
}
