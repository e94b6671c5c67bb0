import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { afterAll, beforeAll, expect, inject, it, vi } from 'vitest'
import { kafkaTopics } from '#schema/kafka-topics.ts'
import type { TelemetryEvent } from '#schema/telemetry-event.ts'
import type { Report } from '#simulator/report.ts'
import { type ReadRecord, readTopic } from '#test/kafka/topics.ts'
import { freshTopicPrefix, migratedDatabase } from '#test/servers/fresh.ts'
import { Load, whatDevicesSaw } from '#test/stack/load.ts'
import { run } from '#test/stack/process.ts'
import { type LocalStack, startLocalStack } from '../../ops/local-stack.ts'

/** Messages a second, and seconds that the shorter fleets send: more when run by hand, `SCALE_RATE=2000 SCALE_SECONDS=30 npm test -- test/scale`. */
const rate = Number(process.env.SCALE_RATE ?? 400)
const shortest = Number(process.env.SCALE_SECONDS ?? 8)
/** Enough that each of the later partitions gets some. */
const devices = 200
const partitions = 4

vi.setConfig({ testTimeout: 60_000 + shortest * 3000 })

const topicPrefix = freshTopicPrefix()
let database: Awaited<ReturnType<typeof migratedDatabase>>
let stack: LocalStack

beforeAll(async () => {
  database = await migratedDatabase()
  stack = await startLocalStack({
    kafkaBrokers: inject('kafkaBrokers'),
    redisUrl: inject('redisUrl'),
    databaseUrl: database.url,
    env: { BRIDGE_KAFKA_TOPIC_PREFIX: topicPrefix, BRIDGE_KAFKA_PARTITIONS: String(partitions) },
  })
})
afterAll(async () => {
  await stack?.[Symbol.asyncDispose]()
  await database?.[Symbol.asyncDispose]()
})

/** Sends by MQTT and a little by HTTP through the balancer while something happens, and audits what was acknowledged. */
async function underLoad(what: string, seconds: number, change: () => Promise<void>): Promise<Report[]> {
  await using mqtt = new Load({ protocol: 'mqtt', port: stack.mqttPort, devices, rate, seconds }, stack.env)
  await using http = new Load({ protocol: 'http', port: stack.httpPort, devices: 10, rate: 20, seconds }, stack.env)
  const before = await storedMessages()
  await vi.waitFor(async () => expect(await storedMessages()).toBeGreaterThan(before + rate), { timeout: 30_000 })
  const started = performance.now()
  await change()
  console.info(`${what}: ${Math.round(performance.now() - started)} ms`)
  const reports = await Promise.all([mqtt.report(), http.report()])
  for (const report of reports) {
    console.info(`${what}: ${whatDevicesSaw(report)}`)
    expect(report, JSON.stringify(report.examples)).toMatchObject({ missing: 0, doubled: 0, misplaced: 0 })
    expect(report.acked, 'all of it').toBe(report.sent)
  }
  return reports
}

async function storedMessages(): Promise<number> {
  return Number((await query<{ sum: string | null }>('SELECT sum(stored) FROM ingest_offset'))[0]?.sum ?? 0)
}

async function query<Row extends pg.QueryResultRow>(text: string): Promise<Row[]> {
  const client = new pg.Client(database.url)
  await client.connect()
  try {
    return (await client.query<Row>(text)).rows
  } finally {
    await client.end()
  }
}

async function partitionsOf(opsUrl: string): Promise<number> {
  const answer = await fetch(`${opsUrl}/readyz`)
  return ((await answer.json()) as { partitions: number }).partitions
}

it('a rolling restart, workers first, then gateways: every acknowledged number is one row', async () => {
  await underLoad('rolling restart', 2 * shortest, async () => {
    for (const index of [0, 1]) expect(await stack.restartWorker(index), 'a worker ends well').toBe(0)
    for (const index of [0, 1]) expect(await stack.restartGateway(index), 'a gateway ends well').toBe(0)
  })
})

it('a worker joins and leaves, and gets its share meanwhile', async () => {
  await underLoad('worker joins and leaves', shortest, async () => {
    const { process, opsUrl } = await stack.addWorker()
    await vi.waitFor(async () => expect(await partitionsOf(opsUrl)).toBeGreaterThan(0), { timeout: 20_000 })
    await sleep(1000)
    expect(await process.stop()).toBe(0)
  })
})

it('partitions are added: gateways write to them, workers read them, and devices keep their order', async () => {
  const { telemetry } = kafkaTopics(topicPrefix)
  const more = 3 * partitions
  const [mqtt] = await underLoad('partitions added', shortest, async () => {
    const printed = JSON.parse(await run(['init', '--partitions', String(more), '--json'], stack.env))
    expect(printed).toMatchObject({ partitions: { before: partitions, now: more }, topics: [] })
    const grown = performance.now()
    await vi.waitFor(
      async () =>
        expect(
          await query(`SELECT partition FROM ingest_offset WHERE stream LIKE '%/${telemetry}/%' AND stored > 0`),
        ).toHaveLength(more),
      { timeout: 20_000 },
    )
    console.info(`partitions added: rows of all ${more} after ${Math.round(performance.now() - grown)} ms`)
  })
  await expect(run(['init', '--partitions', '2'], stack.env)).rejects.toThrow(`${more} partitions already`)
  const records = await readTopic(inject('kafkaBrokers'), telemetry)
  const moved = deviceMoves(records.filter(({ key }) => String(key).startsWith(`default/sim-${mqtt?.runId}-`)))
  console.info(
    `partitions added: ${moved} devices went on in another partition, each after its last record in the old one`,
  )
  expect(moved).toBeGreaterThan(0)
})

/** @returns how many devices are in two partitions. Fails when one is in more, or was written to the new one before it had left the old one. */
function deviceMoves(records: readonly ReadRecord[]): number {
  let moved = 0
  for (const [key, own] of Map.groupBy(records, (record) => String(record.key))) {
    const parts = [...Map.groupBy(own, ({ partition }) => partition).values()].map((part) =>
      part.map(({ value }) => numberOf(JSON.parse(String(value)) as TelemetryEvent)),
    )
    for (const numbers of parts)
      expect(numbers, `${key}: the order within a partition`).toEqual(numbers.toSorted((a, b) => a - b))
    if (parts.length === 1) continue
    moved++
    expect(parts, key).toHaveLength(2)
    const [first, second] = parts.toSorted((a, b) => (a[0] ?? 0) - (b[0] ?? 0)) as [number[], number[]]
    expect(first.at(-1), `${key}: the order across the move`).toBeLessThan(second[0] as number)
  }
  return moved
}

/** The simulator's number of a message. */
function numberOf({ readings }: TelemetryEvent): number {
  return readings[0]?.value as number
}
