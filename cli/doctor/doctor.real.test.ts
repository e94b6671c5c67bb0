import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, inject, it, onTestFinished, vi } from 'vitest'
import { freePort } from '#test/servers/free-port.ts'
import { freshDatabase, freshTopicPrefix } from '#test/servers/fresh.ts'
import { startKafkaCluster } from '#test/servers/kafka-cluster.ts'
import { startPostgres } from '#test/servers/postgres.ts'
import { BridgeProcess, run } from '#test/stack/process.ts'
import type { CheckReport } from './run-checks.ts'

vi.setConfig({ testTimeout: 300_000 }) // whole stacks start, and servers are killed

const bin = fileURLToPath(new URL('../../bin/fleetbridge.js', import.meta.url))

/** So that the machine's limit of open files is enough, whatever it is. */
const few = { BRIDGE_MQTT_MAX_CONNECTIONS: '100', BRIDGE_HTTP_MAX_CONNECTIONS: '100' }

it('embedded: 0 before the first start and while it runs', async () => {
  const env = { ...few, ...(await ownPorts()), BRIDGE_DATA_DIR: newFolder(), BRIDGE_POSTGRES_PORT: '0' }
  await healthy(env)
  await using up = new BridgeProcess(['up'], env)
  await up.until('it runs', () => up.output.includes('waiting for the first message'))
  const running = await healthy(env)
  const seen = (name: string) => running.checks.find((check) => check.name === name)?.findings.map((one) => one.seen)
  expect(seen('running')?.join()).toMatch(/\/readyz: ready/)
  expect(seen('ports')).toHaveLength(4)
  expect(seen('ports')?.every((text) => text.includes("is our running instance's"))).toBe(true)
  expect(seen('an ack')).toEqual(['committed: the rows are committed in Postgres'])
})

it('as text: a mark a line, no colours for a pipe, 2 when something is to be mended', async () => {
  const env = { ...few, ...(await ownPorts()), BRIDGE_DATA_DIR: newFolder(), KAFKA_BROKERS: '127.0.0.1:1' }
  const { code, output } = await ended(['doctor'], env)
  expect(code).toBe(2)
  expect(output).toMatch(/^✓ configuration {2}/m)
  expect(output).toMatch(/^✗ kafka +no broker answers/m)
  expect(output).toMatch(/^! kafka topics +not checked: Kafka does not answer$/m)
  expect(output).not.toContain('\x1b')
  const bad = await ended(['doctor', '--json'], { ...env, BRIDGE_MQTT_PORT: 'x' })
  expect(bad.code).toBe(2)
  expect(JSON.parse(bad.output)).toMatchObject({ verdict: 'fail', checks: [{ name: 'configuration' }] })
})

it('distributed: 0 with three brokers, 1 when one of them is gone', async () => {
  await using cluster = await startKafkaCluster()
  await using postgres = await startPostgres({ durable: true })
  const env = {
    ...few,
    ...(await ownPorts()),
    KAFKA_BROKERS: cluster.brokers,
    REDIS_URL: inject('redisUrl'),
    DATABASE_URL: postgres.url,
    BRIDGE_KAFKA_TOPIC_PREFIX: freshTopicPrefix(),
  }
  await run(['init', '--require-replicas', '3'], env)
  await run(['init', '--require-replicas', '3'], env)
  const more = await ended(['init', '--require-replicas', '4', '--json'], env)
  expect(more.code).toBe(1)
  expect(more.errors).toMatch(/BRIDGE_REPLICAS_MISSING.*the cluster has 3 broker.*has partitions of 3 cop/)

  await using worker = new BridgeProcess(['worker'], { ...env, BRIDGE_OPS_PORT: '0' })
  await worker.until('it has joined', () => worker.output.includes('joined the consumer group'))
  const well = await healthy(env)
  expect(well.output).toContain('replicated: two Kafka brokers at least have it')
  expect(well.output).toContain('3 range(s), made ahead until')

  await cluster.nodes[2]?.kill()
  await vi.waitFor(
    async () => {
      const one = await doctor(env)
      expect(one.code).toBe(1)
      expect(one.output).toMatch(/these do not answer: 127/)
      expect(one.output).toMatch(/has copies that are behind/)
    },
    { timeout: 120_000, interval: 1000 },
  )
})

it('init --require-replicas makes nothing where there are too few brokers, and says so', async () => {
  await using database = await freshDatabase()
  const prefix = freshTopicPrefix()
  const env = { DATABASE_URL: database.url, KAFKA_BROKERS: inject('kafkaBrokers'), BRIDGE_KAFKA_TOPIC_PREFIX: prefix }
  const refused = await ended(['init', '--require-replicas', '2', '--json'], env)
  expect(refused.code).toBe(1)
  expect(refused.errors).toMatch(
    /BRIDGE_REPLICAS_MISSING.*2 replicas are required, and the cluster has 1 broker\(s\)\. No topic was made/,
  )
  expect(JSON.parse(await run(['init', '--require-replicas', '1', '--json'], env)).topics).toHaveLength(3)
  const noKafka = await ended(['init', '--require-replicas', '2'], { DATABASE_URL: database.url })
  expect(noKafka).toMatchObject({ code: 2, errors: expect.stringContaining('KAFKA_BROKERS') })
})

interface Examined extends Ended {
  readonly verdict: string
  readonly checks: readonly CheckReport[]
}

interface Ended {
  readonly code: number | null
  readonly output: string
  readonly errors: string
}

/** On a busy machine a server may answer too late for one look, and that is told as it should be. */
function healthy(env: NodeJS.ProcessEnv): Promise<Examined> {
  return vi.waitFor(
    async () => {
      const examined = await doctor(env)
      expect(examined, examined.output).toMatchObject({ code: 0, verdict: 'ok' })
      return examined
    },
    { timeout: 60_000, interval: 500 },
  )
}

async function doctor(env: NodeJS.ProcessEnv): Promise<Examined> {
  const result = await ended(['doctor', '--json'], env)
  return { ...result, ...(JSON.parse(result.output) as { verdict: string; checks: CheckReport[] }) }
}

async function ended(args: readonly string[], env: NodeJS.ProcessEnv): Promise<Ended> {
  const { PATH, HOME } = process.env
  const child = spawn(process.execPath, [bin, ...args], { env: { PATH, HOME, ...env } })
  let output = ''
  let errors = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text))
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, output, errors }
}

async function ownPorts(): Promise<NodeJS.ProcessEnv> {
  const names = ['BRIDGE_MQTT_PORT', 'BRIDGE_HTTP_PORT', 'BRIDGE_OPS_PORT', 'BRIDGE_ADMIN_PORT']
  return Object.fromEntries(await Promise.all(names.map(async (name) => [name, String(await freePort())])))
}

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'fleetbridge-doctor-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return join(folder, 'data')
}
