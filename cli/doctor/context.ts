import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Redis as RedisClient } from 'ioredis'
import type { Admin } from 'kafkajs'
import pg from 'pg'
import type { Config } from '#platform/config-schema.ts'
import { readSecrets } from '#platform/data-dir.ts'
import { databaseUser, livePostmaster } from '#platform/embedded-postgres-cluster.ts'
import { type Handle, handleOf } from '#platform/handle.ts'
import { createKafka } from '#platform/kafka-client.ts'
import { createLog } from '#platform/log.ts'
import { addressOf, createRedis } from '#platform/redis-connection.ts'
import { findInstance, withoutPassword } from '../instance.ts'
import { type DoctorContext, type DoctorDatabase, type Redis, ServerAway } from './check.ts'
import { textOf } from './run-checks.ts'

const connectMs = 7000
const answerMs = 8000
const closeMs = 500
const kafkaAttempts = { initialRetryTime: 100, maxRetryTime: 300, retries: 1 }

/** Opens nothing by itself. @throws BridgeError BRIDGE_NOT_RUNNING when the state of a running instance cannot be read */
export function createContext(config: Config): DoctorContext & Handle {
  const instance = findInstance(config.dataDir)
  const database = findDatabase(config, instance?.databaseUrl)
  const closing: (() => Promise<unknown>)[] = []
  const shared = <Connection>(open: () => Promise<Connection>) => {
    let opened: Promise<Connection> | undefined
    return () => {
      opened ??= open()
      return opened
    }
  }
  const postgres = shared(() => openPostgres(database, closing))
  const kafka = shared(() => openKafka(config, closing))
  const redis = shared(() => openRedis(config, closing))
  return {
    config,
    instance,
    database,
    now: Date.now,
    postgres,
    kafka,
    redis,
    // What does not say goodbye in time is left to the end of the process.
    ...handleOf(async () => {
      const goodbyes = closing.map((close) => close().catch(() => undefined))
      await Promise.race([Promise.all(goodbyes), sleep(closeMs, undefined, { ref: false })])
    }),
  }
}

/** The embedded Postgres may run without its fleetbridge, which was killed: the next start takes it over. */
function findDatabase(config: Config, running: string | undefined): DoctorDatabase | undefined {
  if (config.database.url !== undefined) return { url: config.database.url, embeddedPath: undefined }
  const dataDir = resolve(config.dataDir)
  if (!existsSync(dataDir)) return undefined
  const { postgresPassword, postgresPath: embeddedPath = join(dataDir, 'postgres') } = readSecrets(dataDir)
  if (running !== undefined) return { url: running, embeddedPath }
  const server = livePostmaster(embeddedPath)
  if (server === undefined || postgresPassword === undefined) return undefined
  return {
    url: `postgres://${databaseUser}:${postgresPassword}@127.0.0.1:${server.port}/${databaseUser}`,
    embeddedPath,
  }
}

async function openPostgres(
  database: DoctorDatabase | undefined,
  closing: (() => Promise<unknown>)[],
): Promise<pg.Pool> {
  if (database === undefined)
    throw new ServerAway('Postgres', 'the embedded Postgres does not run', 'Start it with "npm start".')
  const pool = new pg.Pool({
    connectionString: database.url,
    max: 4,
    application_name: 'fleetbridge doctor',
    connectionTimeoutMillis: connectMs,
    query_timeout: answerMs,
    statement_timeout: answerMs,
  })
  pool.on('error', () => undefined) // the query that is under way says it
  closing.push(() => pool.end())
  try {
    await pool.query('select 1')
    return pool
  } catch (error) {
    throw new ServerAway(
      'Postgres',
      `${withoutPassword(database.url)} does not answer: ${textOf(error)}`,
      database.embeddedPath === undefined
        ? 'Start it, or mend DATABASE_URL.'
        : `Its process runs, so it is frozen or overloaded, or refuses: its log is in ${join(database.embeddedPath, 'log')}.`,
      error,
    )
  }
}

async function openKafka({ kafka }: Config, closing: (() => Promise<unknown>)[]): Promise<Admin> {
  const { brokers = [] } = kafka
  const admin = createKafka(brokers, 'fleetbridge-doctor', createLog('fleetbridge', 'silent'), kafkaAttempts).admin()
  closing.push(() => admin.disconnect())
  try {
    await admin.connect()
    return admin
  } catch (error) {
    throw new ServerAway(
      'Kafka',
      `${brokers.join(', ')} does not answer: ${textOf(error)}`,
      'Start it, or mend KAFKA_BROKERS.',
      error,
    )
  }
}

async function openRedis({ redis }: Config, closing: (() => Promise<unknown>)[]): Promise<Redis> {
  const client: RedisClient = createRedis(redis.url as string)
  let last: Error | undefined // connect() itself says only that it was closed
  client.on('error', (error: Error) => {
    last = error
  })
  closing.push(async () => client.disconnect())
  try {
    await client.connect()
    return (command, ...args) => client.call(command, ...args)
  } catch (error) {
    client.disconnect()
    const { password } = client.options
    const reason = textOf(last ?? error).replaceAll(password || '\0', '***')
    throw new ServerAway(
      'Redis',
      `${addressOf(client)} does not answer: ${reason}`,
      'Start it, or mend REDIS_URL. Until then each gateway counts limits by its share.',
      error,
    )
  }
}
