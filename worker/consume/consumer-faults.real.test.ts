import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createKafka } from '#platform/kafka-client.ts'
import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import { migrate } from '#platform/migrate.ts'
import { encodeTelemetry } from '#schema/telemetry-record.ts'
import { freshTopics, numberedEvent, until } from '#test/kafka/topics.ts'
import { type KafkaServer, startKafka } from '#test/servers/kafka.ts'
import { type PostgresServer, startPostgres } from '#test/servers/postgres.ts'
import { startStore } from '../store/store.ts'
import { type Consumer, startConsumer } from './consumer.ts'

// Servers of our own: they are frozen and killed.
let kafka: KafkaServer
let postgres: PostgresServer
let databases = 0

beforeAll(async () => {
  ;[kafka, postgres] = await Promise.all([startKafka(), startPostgres()])
})

afterAll(() => Promise.all([kafka.close(), postgres.close()]))

/** A running worker and a stream of numbered events that flows until `check` has what it asks for. */
async function underLoad(disturb: (worker: Consumer) => Promise<void>): Promise<void> {
  await using opened = new AsyncDisposableStack()
  const name = `faults_${databases++}`
  const root = new pg.Client({ connectionString: postgres.url })
  await root.connect()
  await root.query(`create database ${name}`)
  await root.end()
  const url = new URL(postgres.url)
  url.pathname = `/${name}`
  await migrate(url.href, silentLog)
  const topics = await freshTopics(kafka.brokers, { partitions: 4 })
  const producer = createKafka([kafka.brokers], 'test', silentLog).producer({
    idempotent: true,
    maxInFlightRequests: 1,
  })
  await producer.connect()
  opened.defer(() => producer.disconnect())
  const metrics = createMetrics('test')
  const storeOptions = { databaseUrl: url.href, poolSize: 3, retention: '90d', log: silentLog, metrics }
  const store = opened.use(await startStore(storeOptions))
  const worker = opened.use(startConsumer({ kafka: topics.kafka, store, log: silentLog, metrics }))
  const sql = new pg.Pool({ connectionString: url.href, max: 1 })
  sql.on('error', () => {})
  opened.defer(() => sql.end())
  const rows = async () => Number((await sql.query('select count(*) n from reading')).rows[0].n)

  let number = 0
  let flowing = true
  const flow = (async () => {
    while (flowing) {
      const events = Array.from({ length: 20 }, () => numberedEvent(`d-${number % 9}`, number++))
      const messages = events.map(encodeTelemetry).map(({ key, value }) => ({ key, value }))
      await producer.send({ topic: topics.telemetry, messages })
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  })()
  await until('rows come', async () => (await rows()) > 200)
  await disturb(worker)
  const before = await until('the database answers', () =>
    rows().then(
      () => true,
      () => false,
    ),
  ).then(rows)
  await until('rows come again', async () => (await rows()) > before + 200, 40_000)
  flowing = false
  await flow
  await until('every row is there', async () => (await rows()) === number, 40_000)
  const { rows: sums } = await sql.query(
    'select sum(stored) stored, sum(duplicate) duplicate, sum(parked) parked from ingest_offset',
  )
  expect({ ...sums[0] }).toEqual({ stored: String(number), duplicate: '0', parked: '0' })
  await until('the lag is 0', () => worker.state().lag === 0)
  expect(worker.state()).toMatchObject({ joined: true, partitions: 10, stopped: [], failingMs: 0 })
  expect(await metrics.registry.metrics()).toContain('fleetbridge_consumer_restarts_total{reason="quiet"} 0')
}

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

it('waits for a Postgres that is down for longer than the session, and keeps its partitions', async () => {
  await underLoad(async (worker) => {
    await postgres.kill()
    await until('it says so', () => worker.state().failingMs > 0)
    await sleep(9000)
    expect(worker.state().partitions).toBe(10)
    await postgres.restart()
  })
}, 120_000)

it('waits for a Postgres that is frozen', async () => {
  await underLoad(async () => {
    using _frozen = postgres.pause()
    await sleep(8000)
    postgres.resume()
  })
}, 120_000)

it('goes on after kill -9 of Kafka', async () => {
  await underLoad(async () => {
    await kafka.kill()
    await kafka.restart()
  })
}, 120_000)

it('goes on after Kafka was frozen for longer than the session', async () => {
  await underLoad(async () => {
    using _frozen = kafka.pause()
    await sleep(12_000)
    kafka.resume()
  })
}, 120_000)
