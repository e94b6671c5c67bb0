import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, expect, inject, it, vi } from 'vitest'
import { createKafka } from '#platform/kafka-client.ts'
import { silentLog } from '#platform/log.ts'
import { kafkaTopics } from '#schema/kafka-topics.ts'
import type { Report } from '#simulator/report.ts'
import { freePort } from '#test/servers/free-port.ts'
import { freshTopicPrefix } from '#test/servers/fresh.ts'
import { type PostgresServer, startPostgres } from '#test/servers/postgres.ts'
import { run as runProgram } from '#test/servers/server-process.ts'
import { Load, whatDevicesSaw } from '#test/stack/load.ts'
import { BridgeProcess, run } from '#test/stack/process.ts'
import { type LocalStack, startLocalStack } from '../../ops/local-stack.ts'

// A Postgres of its own, whose files of "last night" come back: Kafka still has what came since.
const rate = Number(process.env.SCALE_RATE ?? 400)
const seconds = Number(process.env.SCALE_SECONDS ?? 8)
const topicPrefix = freshTopicPrefix()
let postgres: PostgresServer
let stack: LocalStack
let folder: string
let csv: string
let backup: string
let firstNight: Report

vi.setConfig({ testTimeout: 60_000 + seconds * 3000 })

beforeAll(async () => {
  postgres = await startPostgres({ durable: true })
  stack = await startLocalStack({
    kafkaBrokers: inject('kafkaBrokers'),
    redisUrl: inject('redisUrl'),
    databaseUrl: postgres.url,
    env: { BRIDGE_KAFKA_TOPIC_PREFIX: topicPrefix, BRIDGE_KAFKA_PARTITIONS: '4' },
  })
  folder = await mkdtemp(join(tmpdir(), 'fleetbridge-restore-'))
  csv = join(folder, 'fleet.csv')
  await writeFile(csv, await run(['devices', 'add', '--count', '40', '--prefix', 'sensor-', '--csv'], stack.env))
  await using load = new Load({ protocol: 'mqtt', port: stack.mqttPort, devices: csv, rate, seconds: 2 }, stack.env)
  firstNight = await load.report()
  backup = `${postgres.dataPath}-last-night`
  await postgres.kill('SIGINT')
  await runProgram('cp', ['-a', postgres.dataPath, backup])
  await postgres.restart()
})
afterAll(async () => {
  await stack?.[Symbol.asyncDispose]()
  await postgres?.close()
  for (const path of [folder, backup]) if (path !== undefined) await rm(path, { recursive: true, force: true })
})

/** Puts last night's files in place of today's. */
async function restore(): Promise<void> {
  await postgres.kill('SIGKILL')
  await rm(postgres.dataPath, { recursive: true })
  await runProgram('cp', ['-a', backup, postgres.dataPath])
  await postgres.restart()
}

async function query<Row extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<Row[]> {
  const client = new pg.Client(postgres.url)
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query<Row>(text, values)).rows
  } finally {
    await client.end()
  }
}

const counts = async () =>
  (
    await query<{ stored: number; duplicate: number; parked: number; rows: number }>(
      `SELECT sum(stored)::int AS stored, sum(duplicate)::int AS duplicate, sum(parked)::int AS parked,
              (SELECT count(*)::int FROM reading) AS rows FROM ingest_offset`,
    )
  )[0]

const stopWorkers = () => Promise.all(stack.workers.map((worker) => worker.stop()))

it('a restored Postgres catches up from Kafka by itself, while devices go on sending', async () => {
  await using load = new Load({ protocol: 'mqtt', port: stack.mqttPort, devices: csv, rate, seconds }, stack.env)
  await vi.waitFor(async () => expect((await counts())?.stored).toBeGreaterThan(firstNight.acked + 2 * rate), {
    timeout: 30_000,
  })
  const started = performance.now()
  await stopWorkers()
  const lost = (await counts())?.stored as number
  await restore()
  expect((await counts())?.stored, 'as it was last night').toBe(firstNight.acked)
  await Promise.all([0, 1].map((index) => stack.restartWorker(index)))
  await vi.waitFor(async () => expect((await counts())?.stored).toBeGreaterThan(lost), { timeout: 30_000 })
  console.info(
    `restore: ${lost - firstNight.acked} messages were gone; back and ahead ${Math.round(performance.now() - started)} ms after the workers stopped`,
  )
  const report = await load.report()
  console.info(`restore: ${whatDevicesSaw(report)}`)
  expect(report, JSON.stringify(report.examples)).toMatchObject({ missing: 0, doubled: 0, misplaced: 0 })
  expect(report, 'devices have not seen any of it').toMatchObject({ acked: report.due, reconnects: 0 })
  const rows = (firstNight.rows ?? 0) + (report.rows ?? 0)
  expect(await counts()).toEqual({ stored: firstNight.acked + report.acked, duplicate: 0, parked: 0, rows })
})

it('under running workers, too: a device that has another number now than they remember keeps its readings', async () => {
  const numberOf = async (device: string) =>
    (await query<{ id: number }>('SELECT id FROM device WHERE external_id = $1', [device]))[0]?.id
  const levels = async (device: string) =>
    (await query<{ value: number }>('SELECT value FROM telemetry WHERE device = $1 ORDER BY value', [device])).map(
      ({ value }) => value,
    )
  const added = JSON.parse(await run(['devices', 'add', 'newcomer', '--json'], stack.env)) as { token: string }[]
  const send = async (value: number) =>
    (
      await fetch(`http://127.0.0.1:${stack.httpPort}/v1/telemetry`, {
        method: 'POST',
        headers: { authorization: `Bearer ${added[0]?.token}`, 'content-type': 'application/json' },
        // A metric that last night knew: an unknown one would make the worker forget all numbers.
        body: JSON.stringify({ values: { seq: value } }),
      })
    ).status
  await expect.poll(() => send(1)).toBe(202)
  for (let value = 2; value <= 9; value++) expect(await send(value)).toBe(202)
  const sent = [1, 2, 3, 4, 5, 6, 7, 8, 9]
  await vi.waitFor(async () => expect(await levels('newcomer')).toEqual(sent))
  const remembered = await numberOf('newcomer')

  const signalAll = (signal: 'SIGSTOP' | 'SIGCONT') => {
    for (const { child } of stack.workers) child.kill(signal)
  }
  signalAll('SIGSTOP')
  try {
    await restore()
    await run(['devices', 'add', 'stranger'], stack.env)
    expect(await numberOf('stranger'), 'it has the number now').toBe(remembered)
  } finally {
    signalAll('SIGCONT')
  }
  await vi.waitFor(async () => expect(await levels('newcomer')).toEqual(sent), { timeout: 40_000 })
  expect(await levels('stranger')).toEqual([])
})

it('says so when Kafka has deleted what the backup lacks, reads the rest, and goes on when told to', async () => {
  const { telemetry: topic } = kafkaTopics(topicPrefix)
  await stopWorkers()
  await restore()
  const admin = createKafka([inject('kafkaBrokers')], 'test', silentLog).admin()
  await admin.connect()
  const high = (await admin.fetchTopicOffsets(topic)).find(({ partition }) => partition === 2)?.high as string
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 2, offset: high }] })
  await admin.disconnect()

  const opsPort = await freePort()
  const start = () => new BridgeProcess(['worker'], { ...stack.env, BRIDGE_OPS_PORT: String(opsPort) })
  const ready = async () => {
    const answer = await fetch(`http://127.0.0.1:${opsPort}/readyz`).catch(() => undefined)
    return { status: answer?.status, ...((await answer?.json()) as { stopped?: string[]; lag?: number }) }
  }
  await using worker = start()
  await worker.until('the partition is stopped', async () => (await ready()).stopped?.length === 1)
  expect(await ready()).toMatchObject({ status: 503, stopped: [`${topic}/2`] })
  expect(worker.output).toMatch(
    /partition 2 .*records \d+ to \d+ were deleted before they were written.*delete its row/,
  )
  const offsetOf = async (partition: number) =>
    Number(
      (
        await query<{ next_offset: string }>(
          'SELECT next_offset FROM ingest_offset WHERE partition = $1 AND stream LIKE $2',
          [partition, `%/${topic}/%`],
        )
      )[0]?.next_offset,
    )
  const stopped = await offsetOf(2)
  await worker.until('the others have caught up', async () => (await counts())?.stored === (await expected()))
  expect(await offsetOf(2), 'nothing is skipped unasked').toBe(stopped)

  expect(await worker.stop()).toBe(0)
  await query('DELETE FROM ingest_offset WHERE partition = 2 AND stream LIKE $1', [`%/${topic}/%`])
  await using again = start()
  await again.until('/readyz is 200', async () => (await ready()).status === 200)
})

/** Messages in the partitions that are whole, by their offsets, and what last night had of the other one. */
async function expected(): Promise<number> {
  const rows = await query<{ partition: number; next_offset: string; stored: string }>(
    'SELECT partition, next_offset, stored FROM ingest_offset WHERE stream LIKE $1',
    [`%/${kafkaTopics(topicPrefix).telemetry}/%`],
  )
  return rows.reduce(
    (sum, { partition, next_offset, stored }) => sum + Number(partition === 2 ? stored : next_offset),
    0,
  )
}
