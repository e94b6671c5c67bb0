import { randomBytes } from 'node:crypto'
import type { TestProject } from 'vitest/node'
import { silentLog } from '#platform/log.ts'
import { migrate } from '#platform/migrate.ts'
import { execute } from './fresh.ts'
import { startKafka } from './kafka.ts'
import { startPostgres } from './postgres.ts'
import { startRedis } from './redis.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** host:port,host:port */
    kafkaBrokers: string
    redisUrl: string
    /** A database in which tests may create databases; see fresh.ts. */
    postgresUrl: string
    /** Name of a database there that is migrated and to which nobody connects: what migratedDatabase copies. */
    migratedTemplate: string
  }
}

/** One Kafka, one Redis and one Postgres for all test files: those that the environment names, else our own. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const { KAFKA_BROKERS, REDIS_URL, DATABASE_URL } = process.env
  const opened: AsyncDisposable[] = []
  const teardown = async () => {
    await Promise.all(opened.map((server) => server[Symbol.asyncDispose]()))
  }
  const own = async <Server extends AsyncDisposable>(start: () => Promise<Server>) => {
    const server = await start()
    opened.push(server)
    return server
  }
  const outcomes = await Promise.allSettled([
    KAFKA_BROKERS || own(startKafka).then(({ brokers }) => brokers),
    REDIS_URL || own(startRedis).then(({ url }) => url),
    DATABASE_URL || own(startPostgres).then(({ url }) => url),
  ])
  const reasons = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as Error] : []))
  if (reasons.length > 0) {
    await teardown()
    throw new Error(`the tests cannot run:\n${reasons.map(({ message }) => message).join('\n')}`)
  }
  const [kafkaBrokers, redisUrl, postgresUrl] = outcomes.map((outcome) => (outcome as { value: string }).value)
  project.provide('kafkaBrokers', kafkaBrokers as string)
  project.provide('redisUrl', redisUrl as string)
  project.provide('postgresUrl', postgresUrl as string)
  const template = await migratedTemplate(postgresUrl as string)
  project.provide('migratedTemplate', template.name)
  return async () => {
    await template[Symbol.asyncDispose]()
    await teardown()
  }
}

async function migratedTemplate(server: string): Promise<{ name: string } & AsyncDisposable> {
  const name = `template_${randomBytes(6).toString('hex')}`
  const url = new URL(server)
  url.pathname = `/${name}`
  await execute(server, `CREATE DATABASE ${name}`)
  await migrate(url.href, silentLog)
  return { name, [Symbol.asyncDispose]: () => execute(server, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`) }
}
