import { Kafka, type Consumer as KafkaConsumer, type Producer } from 'kafkajs'
import { expect, inject, it, vi } from 'vitest'
import { createKafka } from '#platform/kafka-client.ts'
import { silentLog } from '#platform/log.ts'
import { createMetrics } from '#platform/metrics.ts'
import { encodeDeadLetter } from '#schema/dead-letter-record.ts'
import { workerGroup } from '#schema/kafka-topics.ts'
import { type EncodedRecord, encodeTelemetry } from '#schema/telemetry-record.ts'
import { type FreshTopics, freshTopics, numberedEvent, until } from '#test/kafka/topics.ts'
import { deadLetterOf, type StoreDatabase, storeDatabase } from '../store/store.fixture.ts'
import type { Store } from '../store/store.ts'
import { type Consumer, type ConsumerOptions, startConsumer } from './consumer.ts'

const brokers = inject('kafkaBrokers')

class Bench implements AsyncDisposable {
  readonly topics: FreshTopics
  readonly database: StoreDatabase
  readonly producer: Producer
  readonly #opened: AsyncDisposableStack

  private constructor(topics: FreshTopics, database: StoreDatabase, producer: Producer, opened: AsyncDisposableStack) {
    this.topics = topics
    this.database = database
    this.producer = producer
    this.#opened = opened
  }

  static async open(): Promise<Bench> {
    const opened = new AsyncDisposableStack()
    const database = opened.use(await storeDatabase())
    const producer = createKafka([brokers], 'test', silentLog).producer({ idempotent: true, maxInFlightRequests: 1 })
    await producer.connect()
    opened.defer(() => producer.disconnect())
    return new Bench(await freshTopics(brokers, { partitions: 4 }), database, producer, opened)
  }

  /** A worker of its own: store and consumer. */
  async worker(
    wrap: (store: Store) => Store = (store) => store,
    more: Partial<ConsumerOptions> = {},
  ): Promise<Consumer & { store: Store }> {
    const store = await this.database.open()
    const metrics = createMetrics('test')
    const consumer = startConsumer({ kafka: this.topics.kafka, store: wrap(store), log: silentLog, metrics, ...more })
    const close = async () => {
      await consumer.close()
      await store.close()
    }
    const worker = { ...consumer, store, close, [Symbol.asyncDispose]: close }
    this.#opened.use(worker)
    return worker
  }

  async produce(topic: string, records: readonly EncodedRecord[]): Promise<void> {
    const messages = records.map(({ key, value, headers, timestampMs }) => ({
      key,
      value,
      headers: { ...headers },
      timestamp: String(timestampMs),
    }))
    await this.producer.send({ topic, messages })
  }

  async numbers(from: number, to: number, devices = 10): Promise<void> {
    const events = []
    for (let number = from; number < to; number++) events.push(numberedEvent(`d-${number % devices}`, number))
    await this.produce(this.topics.telemetry, events.map(encodeTelemetry))
  }

  async values(): Promise<number[]> {
    const rows = await this.database.rows<{ value: number }>('select value from telemetry order by value')
    return rows.map(({ value }) => value)
  }

  async counts(): Promise<Record<string, number>> {
    const [row] = await this.database.rows<Record<string, string>>(
      'select sum(stored) stored, sum(duplicate) duplicate, sum(parked) parked from ingest_offset',
    )
    return Object.fromEntries(Object.entries(row ?? {}).map(([name, value]) => [name, Number(value)]))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#opened.disposeAsync()
  }
}

/** Deletes the beginning of the one partition that holds records. */
async function deleteTo(topic: string, offset: number): Promise<void> {
  const admin = createKafka([brokers], 'test', silentLog).admin()
  await admin.connect()
  const offsets = await admin.fetchTopicOffsets(topic)
  const partition = offsets.find(({ high }) => high !== '0')?.partition as number
  await admin.deleteTopicRecords({ topic, partitions: [{ partition, offset: String(offset) }] })
  await admin.disconnect()
}

const upTo = (count: number) => Array.from({ length: count }, (_, number) => number)

it('makes records of all partitions rows, once, with the group committed after them', async () => {
  await using bench = await Bench.open()
  await bench.numbers(0, 300)
  const worker = await bench.worker()
  await until('300 rows', async () => (await bench.values()).length === 300)
  await bench.numbers(300, 500)
  await until('500 rows', async () => (await bench.values()).length === 500)
  expect(await bench.values()).toEqual(upTo(500))
  expect(await bench.counts()).toEqual({ stored: 500, duplicate: 0, parked: 0 })
  await until('the lag is 0', () => worker.state().lag === 0)
  expect(worker.state()).toMatchObject({ joined: true, stopped: [], partitions: 10 })
  await worker.close()
  const admin = createKafka([brokers], 'test', silentLog).admin()
  await admin.connect()
  const committed = await admin.fetchOffsets({
    groupId: workerGroup(bench.topics.kafka),
    topics: [bench.topics.telemetry],
  })
  await admin.disconnect()
  const offsets = committed.flatMap(({ partitions }) => partitions.map(({ offset }) => Math.max(0, Number(offset))))
  expect(offsets.reduce((sum, offset) => sum + offset, 0)).toBe(500)
})

it('parks what is no event, whatever it is, and writes its neighbours', async () => {
  await using bench = await Bench.open()
  const at = { timestampMs: Date.now(), headers: {} }
  const good = encodeTelemetry(numberedEvent('d-1', 1))
  await bench.produce(bench.topics.telemetry, [
    good,
    { ...at, key: 'default/d-1', value: 'not json' },
    { ...at, key: 'default/d-1', value: Buffer.from([0xff, 0x00, 0x80]) },
    { ...at, key: 'default/d-1', value: null },
    { ...at, key: 'no slash', value: '[]' },
    { ...good, key: 'default/another' },
    { ...good, value: String(good.value).replace('"v":1', '"v":2') },
    encodeTelemetry(numberedEvent('d-1', 2)),
  ])
  const letter = deadLetterOf({ acknowledged: false, payload: Buffer.from([1, 0, 2]), topic: 'devices/ä/telemetry' })
  await bench.produce(bench.topics.deadLetter, [
    encodeDeadLetter(letter),
    { ...at, key: 'default/d-2', value: 'bare', headers: { source: 'mqtt' } },
    encodeDeadLetter(deadLetterOf({ payload: null })),
  ])
  await bench.worker()
  await until(
    '2 rows, and 8 dead letters of messages that were accepted',
    async () => (await bench.counts()).parked === 8 && (await bench.values()).length === 2,
  )
  const letters = await bench.database.rows<Record<string, unknown>>(
    'select device, code, stage, acknowledged, payload, message from dead_letter order by stage, message, payload',
  )
  expect(
    letters.filter(({ stage }) => stage === 'store').map(({ code, acknowledged }) => `${code} ${acknowledged}`),
  ).toEqual([...Array.from({ length: 6 }, () => 'malformed true'), 'unsupported true'])
  expect(
    letters.find(({ payload }) => Buffer.from([0xff, 0x00, 0x80]).equals((payload ?? Buffer.of()) as Buffer)),
  ).toMatchObject({
    device: 'd-1',
    message: expect.stringMatching(/offset \d+: the value is not JSON/),
  })
  const [kept] = await bench.database.rows('select * from dead_letter where id = $1', [letter.id])
  expect(kept).toMatchObject({
    topic: letter.topic,
    payload: letter.payload,
    code: 'malformed',
    stage: 'decode',
    acknowledged: false,
  })
})

it('goes on from the offsets in Postgres, not from those of the group', async () => {
  await using bench = await Bench.open()
  await bench.numbers(0, 100)
  const first = await bench.worker()
  await until('100 rows', async () => (await bench.values()).length === 100)
  await until('the lag is 0', () => first.state().lag === 0)
  await first.close()
  // As after a standby took over that lacked the last commits: the group's offsets are ahead, rows and offsets are not there.
  await bench.database.sql.query('delete from ingest_offset; delete from latest; delete from reading')
  await bench.worker()
  await until('100 rows again', async () => (await bench.values()).length === 100)
  expect(await bench.counts()).toEqual({ stored: 100, duplicate: 0, parked: 0 })
})

it('reads again after writes that failed, were fenced or whose outcome is not known, and stores nothing twice', async () => {
  await using bench = await Bench.open()
  let writes = 0
  const faulty = (store: Store): Store =>
    new Proxy(store, {
      get(target, name) {
        if (name !== 'write') return Reflect.get(target, name)
        return async (slices: Parameters<Store['write']>[0]) => {
          writes++
          if (writes % 4 === 1) throw new Error('connection refused')
          const outcome = await target.write(slices)
          if (writes % 4 === 2) throw new Error('the connection broke during COMMIT')
          // As when a worker that was thought dead had written the same.
          if (writes % 4 === 3) return await target.write(slices)
          return outcome
        }
      },
    })
  const worker = await bench.worker(faulty)
  await until('it has joined', () => worker.state().joined)
  let number = 0
  while (number < 1000 || writes < 4) {
    await bench.numbers(number, number + 50)
    number += 50
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  await until('every row', async () => (await bench.values()).length === number)
  await until('the lag is 0', () => worker.state().lag === 0)
  expect(await bench.values()).toEqual(upTo(number))
  expect(await bench.counts()).toEqual({ stored: number, duplicate: 0, parked: 0 })
})

it('shares the partitions with a second worker that comes and goes while records flow', async () => {
  await using bench = await Bench.open()
  const first = await bench.worker()
  let number = 0
  let flowing = true
  const flow = (async () => {
    while (flowing) {
      await bench.numbers(number, number + 50)
      number += 50
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  })()
  await until('the first has all', () => first.state().partitions === 7)
  const second = await bench.worker()
  await until('both have some', () => first.state().partitions < 7 && second.state().partitions > 0)
  await new Promise((resolve) => setTimeout(resolve, 1000))
  await second.close()
  await until('the first has all again', () => first.state().partitions === 7)
  flowing = false
  await flow
  await until('every row', async () => (await bench.values()).length === number)
  expect(await bench.counts()).toEqual({ stored: number, duplicate: 0, parked: 0 })
}, 60_000)

it('stops a partition loudly whose stored offset is not in the log; the others go on', async () => {
  await using bench = await Bench.open()
  await bench.numbers(0, 100)
  const first = await bench.worker()
  await until('100 rows', async () => (await bench.values()).length === 100)
  await first.close()
  const [row] = await bench.database.rows<{ stream: string }>('select stream from ingest_offset limit 1')
  await bench.database.sql.query('update ingest_offset set next_offset = 5000 where stream = $1 and partition = 2', [
    row?.stream,
  ])
  const second = await bench.worker()
  await until('it is stopped', () => second.state().stopped.length === 1)
  expect(second.state().stopped).toEqual([`${bench.topics.telemetry}/2`])
  await bench.numbers(100, 200, 40)
  await until('most rows', async () => (await bench.values()).length > 150)
  const [stopped] = await bench.database.rows(
    'select next_offset from ingest_offset where stream = $1 and partition = 2',
    [row?.stream],
  )
  expect(Number(stopped?.next_offset)).toBe(5000)
  expect((await bench.values()).length).toBeLessThan(200)
})

it('notices records that were deleted before it read them, instead of going on behind them', async () => {
  await using bench = await Bench.open()
  await bench.numbers(0, 100, 1)
  const first = await bench.worker()
  await until('100 rows', async () => (await bench.values()).length === 100)
  await first.close()
  await bench.numbers(100, 200, 1)
  await deleteTo(bench.topics.telemetry, 150)
  const second = await bench.worker()
  await until('it is stopped', () => second.state().stopped.length === 1)
  expect((await bench.values()).length).toBe(100)
})

it('notices also while it runs that kafkajs went to the earliest record by itself', async () => {
  await using bench = await Bench.open()
  const gate = { hold: undefined as Promise<void> | undefined, held: false }
  const gated = (store: Store): Store =>
    new Proxy(store, {
      get(target, name) {
        if (name !== 'write') return Reflect.get(target, name)
        return async (slices: Parameters<Store['write']>[0]) => {
          gate.held = gate.hold !== undefined
          await gate.hold
          return await target.write(slices)
        }
      },
    })
  const worker = await bench.worker(gated)
  await bench.numbers(0, 100, 1)
  await until('100 rows', async () => (await bench.values()).length === 100)
  const { promise, resolve } = Promise.withResolvers<void>()
  gate.hold = promise
  await bench.numbers(100, 101, 1)
  await until('the first write is held', () => gate.held)
  await bench.numbers(101, 102, 1) // gathers behind it, and keeps the fetch loop waiting
  await new Promise((done) => setTimeout(done, 600))
  await bench.numbers(102, 300, 1)
  await deleteTo(bench.topics.telemetry, 250)
  gate.hold = undefined
  resolve()
  await until('it is stopped', () => worker.state().stopped.length === 1)
  expect(await bench.values()).toEqual(upTo(102))
})

it('replaces a client that has gone quiet while records lie unread', async () => {
  const made: KafkaConsumer[] = []
  const create = Kafka.prototype.consumer
  vi.spyOn(Kafka.prototype, 'consumer').mockImplementation(function (this: Kafka, config) {
    const consumer = create.call(this, config)
    made.push(consumer)
    return consumer
  })
  await using bench = await Bench.open()
  const metrics = createMetrics('test')
  const worker = await bench.worker(undefined, { quietMs: 1500, metrics })
  await bench.numbers(0, 10)
  await until('10 rows', async () => (await bench.values()).length === 10)
  made[0]?.pause([{ topic: bench.topics.telemetry }]) // behind the worker's back
  await bench.numbers(10, 20)
  await until('20 rows', async () => (await bench.values()).length === 20)
  expect(made).toHaveLength(2)
  expect(await metrics.registry.metrics()).toContain('fleetbridge_consumer_restarts_total{reason="quiet"} 1')
  expect(worker.state()).toMatchObject({ joined: true, partitions: 7 })
})

it.each(['while no worker runs', 'under a running worker'])(
  'starts a topic that was made again %s from its beginning',
  async (when) => {
    await using bench = await Bench.open()
    await bench.numbers(0, 100)
    const first = await bench.worker()
    await until('100 rows', async () => (await bench.values()).length === 100)
    if (when === 'while no worker runs') await first.close()
    const admin = createKafka([brokers], 'test', silentLog).admin()
    await admin.connect()
    await admin.deleteTopics({ topics: [bench.topics.telemetry] })
    await until('the topic is gone', async () => !(await admin.listTopics()).includes(bench.topics.telemetry))
    const made = { topic: bench.topics.telemetry, numPartitions: 4, replicationFactor: 1 }
    await until('the topic is made again', () => admin.createTopics({ topics: [made], waitForLeaders: false }))
    await admin.disconnect()
    await new Promise((resolve) => setTimeout(resolve, 500))
    await bench.numbers(100, 400)
    if (when === 'while no worker runs') await bench.worker()
    await until('400 rows', async () => (await bench.values()).length === 400, 40_000)
    expect(await bench.values()).toEqual(upTo(400))
  },
  60_000,
)
