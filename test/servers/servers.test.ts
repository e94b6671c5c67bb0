import pg from 'pg'
import { expect, inject, it } from 'vitest'
import { createKafka } from '#platform/kafka-client.ts'
import { silentLog } from '#platform/log.ts'
import { freshDatabase, freshTopicPrefix } from './fresh.ts'
import { startPostgres } from './postgres.ts'
import { startRedis } from './redis.ts'
import { accepts } from './server-process.ts'

it('provides a Kafka that takes records', async () => {
  const kafka = createKafka(inject('kafkaBrokers').split(','), 'test', silentLog)
  const admin = kafka.admin()
  await admin.connect()
  const topic = `${freshTopicPrefix()}.probe`
  await admin.createTopics({ topics: [{ topic, numPartitions: 3 }], waitForLeaders: true })
  const producer = kafka.producer()
  await producer.connect()
  const [answer] = await producer.send({ topic, acks: -1, messages: [{ value: 'hello' }] })
  expect(answer?.errorCode).toBe(0)
  await producer.disconnect()
  await admin.deleteTopics({ topics: [topic] })
  await admin.disconnect()
})

it('gives each test a database of its own', async () => {
  await using database = await freshDatabase()
  await using other = await freshDatabase()
  expect(other.url).not.toBe(database.url)
  expect(await ask(database.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }])
})

it('kills, freezes and restarts a Postgres, which keeps its rows', async () => {
  await using postgres = await startPostgres({ durable: true })
  await ask(postgres.url, 'CREATE TABLE kept AS SELECT 7 AS seven')
  const { pid } = postgres
  await postgres.kill()
  expect(await accepts(postgres.port)).toBe(false)
  await postgres.restart()
  expect(postgres.pid).not.toBe(pid)
  expect(await ask(postgres.url, 'SELECT seven FROM kept')).toEqual([{ seven: 7 }])
  using _frozen = postgres.pause()
  await expect(ask(postgres.url, 'SELECT 1', 500)).rejects.toThrow()
  postgres.resume()
  expect(await ask(postgres.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }])
})

it('stops a Redis and starts it again on the same port', async () => {
  await using redis = await startRedis()
  expect(await accepts(redis.port)).toBe(true)
  await redis.kill()
  expect(await accepts(redis.port)).toBe(false)
  await redis.restart()
  expect(await accepts(redis.port)).toBe(true)
})

async function ask(connectionString: string, query: string, connectionTimeoutMillis = 5000): Promise<unknown[]> {
  const client = new pg.Client({ connectionString, connectionTimeoutMillis })
  client.on('error', () => undefined)
  try {
    await client.connect()
    return (await client.query(query)).rows
  } finally {
    await client.end().catch(() => undefined)
  }
}
