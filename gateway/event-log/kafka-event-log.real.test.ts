import { afterAll, beforeAll, expect, it } from 'vitest'
import { silentLog } from '#platform/log.ts'
import { createMetrics, type Metrics } from '#platform/metrics.ts'
import { decodeDeadLetter } from '#schema/dead-letter-record.ts'
import { decodeTelemetry } from '#schema/telemetry-record.ts'
import { produceAs } from '#test/kafka/raw-produce.ts'
import { type FreshTopics, freshTopics, kafkaConfig, readTopic, until } from '#test/kafka/topics.ts'
import { type KafkaServer, startKafka } from '#test/servers/kafka.ts'
import { type EventLogUnderTest, eventOf, letterOf, testEventLog } from './event-log.contract.ts'
import { type KafkaEventLogOptions, startKafkaEventLog } from './kafka-event-log.ts'

// A server of our own: it is frozen and killed.
let server: KafkaServer
const warnings: Error[] = []
const onWarning = (warning: Error) => warnings.push(warning)

beforeAll(async () => {
  process.on('warning', onWarning)
  server = await startKafka()
})

afterAll(async () => {
  process.off('warning', onWarning)
  await server.close()
})

class KafkaUnderTest implements EventLogUnderTest {
  readonly topics: FreshTopics
  readonly metrics: Metrics = createMetrics('test')

  constructor(topics: FreshTopics) {
    this.topics = topics
  }

  static async create(): Promise<KafkaUnderTest> {
    return new KafkaUnderTest(await freshTopics(server.brokers, { partitions: 4 }))
  }

  open({ maxBufferBytes, ...options }: Partial<KafkaEventLogOptions> & { maxBufferBytes?: number } = {}) {
    const kafka = { ...this.topics.kafka, ...(maxBufferBytes !== undefined && { maxBufferBytes }) }
    return startKafkaEventLog(kafka, { log: silentLog, metrics: createMetrics('test'), ...options })
  }

  async numbers() {
    const numbers = new Map<string, number[]>()
    for (const { key, value } of await readTopic(server.brokers, this.topics.telemetry)) {
      const event = decodeTelemetry(key, value)
      if (typeof event === 'string') throw new Error(event)
      const own = numbers.get(event.device) ?? []
      numbers.set(event.device, own)
      for (const reading of event.readings) own.push(reading.value as number)
    }
    return numbers
  }

  async deadLetters() {
    const records = await readTopic(server.brokers, this.topics.deadLetter)
    return records.map(({ headers, value }) => {
      const letter = decodeDeadLetter(headers ?? {}, value)
      if (typeof letter === 'string') throw new Error(letter)
      return { id: letter.id, code: letter.code, payload: letter.payload }
    })
  }

  freeze() {
    return server.pause()
  }

  restore() {
    server.resume()
  }

  async [Symbol.asyncDispose]() {
    server.resume()
  }
}

testEventLog('Kafka', KafkaUnderTest.create)

it('names the topics that are missing, and what makes them', async () => {
  const tools = { log: silentLog, metrics: createMetrics('test') }
  await expect(startKafkaEventLog(kafkaConfig(server.brokers), tools)).rejects.toMatchObject({
    code: 'BRIDGE_TOPICS_MISSING',
    message: expect.stringContaining('fleetbridge init'),
  })
})

it('stores nothing twice although a frozen broker was asked again and again', async () => {
  await using under = await KafkaUnderTest.create()
  await using log = await under.open({ deadlineMs: 60_000 })
  await log.append([eventOf('a', 0)], [])
  using _frozen = server.pause()
  const appends = [1, 2, 3].map((number) => log.append([eventOf(`d-${number}`, number)], []))
  await new Promise((resolve) => setTimeout(resolve, 12_000)) // two requests time out
  expect(log.awayMs()).toBeGreaterThan(11_000)
  server.resume()
  await Promise.all(appends)
  expect(await under.numbers()).toEqual(
    new Map([
      ['a', [0]],
      ['d-1', [1]],
      ['d-2', [2]],
      ['d-3', [3]],
    ]),
  )
}, 60_000)

it('loses and doubles nothing through kill -9 of the broker, and goes on without a restart', async () => {
  await using under = await KafkaUnderTest.create()
  await using log = await under.open({ deadlineMs: 60_000 })
  const acknowledged: number[] = []
  let number = 0
  let flowing = true
  const flow = async () => {
    while (flowing) {
      const own = Array.from({ length: 20 }, () => number++)
      await log.append(
        own.map((value) => eventOf(`d-${value % 7}`, value)),
        [],
      )
      acknowledged.push(...own)
    }
  }
  const flows = [flow(), flow(), flow()]
  await until('records flow', () => acknowledged.length > 500)
  await server.kill()
  await server.restart()
  const before = acknowledged.length
  await until('records flow again', () => acknowledged.length > before + 500)
  flowing = false
  await Promise.all(flows)
  const stored = [...(await under.numbers()).values()].flat().sort((a, b) => a - b)
  expect(stored).toEqual(acknowledged.toSorted((a, b) => a - b))
}, 90_000)

it('starts while Kafka is away, refuses meanwhile, and serves when it comes', async () => {
  await using under = await KafkaUnderTest.create()
  await server.kill()
  await using log = await under.open({ deadlineMs: 300, startMs: 500 })
  expect(log.awayMs()).toBeGreaterThan(400)
  await expect(log.append([eventOf('a', 1)], [])).rejects.toMatchObject({ code: 'BRIDGE_EVENT_LOG_UNAVAILABLE' })
  await server.restart()
  await until('it is back', () => log.awayMs() === 0)
  await log.append([eventOf('a', 2)], [])
  expect(await under.numbers()).toEqual(new Map([['a', [2]]]))
}, 60_000)

it('notices without traffic that Kafka is away', async () => {
  await using under = await KafkaUnderTest.create()
  await using log = await under.open()
  using _frozen = server.pause()
  await until('it says so', () => log.awayMs() > 2000)
  server.resume()
  await until('it is well', () => log.awayMs() === 0)
}, 40_000)

it('parks a record that Kafka refuses even alone, and stores its neighbours once', async () => {
  await using under = await KafkaUnderTest.create()
  const metrics = createMetrics('test')
  await using log = await under.open({ metrics })
  const tooLarge = eventOf('d-3', 0, 'x'.repeat(5 * 1024 * 1024))
  const events = Array.from({ length: 40 }, (_, number) =>
    number === 23 ? tooLarge : eventOf(`d-${number % 8}`, number),
  )
  const largeLetter = letterOf(Buffer.alloc(5 * 1024 * 1024))
  // Held back by the linger, so that they share a request.
  await Promise.all([log.append([eventOf('a', 0)], []), log.append(events, [largeLetter, letterOf(Buffer.from('x'))])])
  await log.append([eventOf('a', 1)], [])
  const numbers = [...(await under.numbers()).values()].flat().sort((a, b) => a - b)
  expect(numbers).toEqual([0, 0, 1, 1, ...Array.from({ length: 38 }, (_, index) => index + 2)].filter((n) => n !== 23))
  const letters = await under.deadLetters()
  expect(letters).toHaveLength(3)
  expect(letters).toContainEqual({ id: tooLarge.id, code: 'record_refused', payload: null })
  expect(letters).toContainEqual({ id: largeLetter.id, code: 'malformed', payload: null })
  expect(await metrics.registry.metrics()).toContain('failures_total{reason="record_refused"} 2')
}, 60_000)

it('takes a new producer when the broker has fenced its epoch, refuses what may or may not be stored, and goes on', async () => {
  await using under = await KafkaUnderTest.create()
  await using log = await under.open()
  await log.append([eventOf('a', 0)], [])
  await produceAs(server.brokers, under.topics.telemetry, eventOf('a', 100), { epochAhead: 1, sequence: 0, records: 1 })
  await expect(log.append([eventOf('a', 1)], [])).rejects.toMatchObject({ code: 'BRIDGE_EVENT_LOG_UNAVAILABLE' })
  await log.append([eventOf('a', 2)], [])
  expect(await under.numbers()).toEqual(new Map([['a', [0, 100, 2]]]))
})

it('sends again under a new producer, once, what was refused as out of order', async () => {
  await using under = await KafkaUnderTest.create()
  await using log = await under.open()
  const others = ['b', 'c', 'd', 'e', 'f', 'g']
  await log.append([eventOf('a', 0)], [])
  await produceAs(server.brokers, under.topics.telemetry, eventOf('a', 100), { epochAhead: 0, sequence: 1, records: 3 })
  await log.append([eventOf('a', 1), ...others.map((device) => eventOf(device, 7))], [])
  await log.append([eventOf('a', 2)], [])
  const expected = [['a', [0, 100, 100, 100, 1, 2]], ...others.map((device) => [device, [7]])] as [string, number[]][]
  expect(await under.numbers()).toEqual(new Map(expected))
})

it('gives Node nothing to warn of', () => {
  expect(warnings.map(({ name, message }) => `${name}: ${message}`)).toEqual([])
})
