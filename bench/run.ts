import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { createKafka } from '#platform/kafka-client.ts'
import { silentLog } from '#platform/log.ts'
import { type KafkaServer, startKafka } from '#test/servers/kafka.ts'
import { startPostgres } from '#test/servers/postgres.ts'
import { startRedis } from '#test/servers/redis.ts'
import { freePort } from '#test/servers/server-process.ts'
import { BridgeProcess, run } from '#test/stack/process.ts'
import { type Measured, measure } from './measure.ts'
import { resultTable } from './result-table.ts'

const usage = `node bench/run.ts [--quick] [--only closed,peer,open] [--redis]
  --quick     5 s a measurement, for a look
  --only      some of the measurements
  --redis     limits in Redis instead of in the gateway's memory`

const { values: flags } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string', default: 'closed,peer,open' },
    redis: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
if (flags.help) {
  console.info(usage)
  process.exit(0)
}

const only = new Set(flags.only.split(','))
const closedMs = flags.quick ? 5000 : 20_000
const openMs = flags.quick ? 5000 : 30_000
const warmupMs = flags.quick ? 2000 : 5000
const readings = 2
const clients = 100
const openDevices = 500
const openRate = 8000
const topicPrefix = 'bench'
const peerTopic = 'bench-peer'
const partitions = 12

// The tests' Kafka starts a second sooner with the quick compiler alone; here it shall run as it does for users.
process.env._JAVA_OPTIONS = '-XX:TieredStopAtLevel=4'

await using opened = new AsyncDisposableStack()
const kafka = opened.use(await startKafka())
const measured: Measured[] = []
const dir = mkdtempSync(join(tmpdir(), 'fleetbridge-bench-'))
opened.defer(() => rmSync(dir, { recursive: true, force: true }))

if (only.has('closed') || only.has('open')) await measureFleetbridge(opened)
if (only.has('peer')) await measurePeer()

console.info(`\n${resultTable(measured)}\n`)
const ours = measured.find(({ name }) => name === 'fleetbridge')
const theirs = measured.find(({ name }) => name === 'aedes + kafkajs')
if (ours && theirs)
  console.info(
    `fleetbridge acknowledges ${(ours.messagesPerSecond / theirs.messagesPerSecond).toFixed(2)} × what the peer does`,
  )
console.info(`written to ${writeResult()}`)

async function measureFleetbridge(servers: AsyncDisposableStack): Promise<void> {
  const postgres = servers.use(await startPostgres({ durable: true }))
  const redis = flags.redis ? servers.use(await startRedis()) : undefined
  const mqttPort = await freePort()
  const env = {
    KAFKA_BROKERS: kafka.brokers,
    DATABASE_URL: postgres.url,
    ...(redis && { REDIS_URL: redis.url }),
    BRIDGE_KAFKA_TOPIC_PREFIX: topicPrefix,
    BRIDGE_KAFKA_PARTITIONS: String(partitions),
    BRIDGE_MQTT_PORT: String(mqttPort),
    BRIDGE_HTTP_PORT: '0',
    BRIDGE_LOG_LEVEL: 'warn',
  }
  await run(['init'], env)
  const csv = join(dir, 'fleet.csv')
  const devices = ['devices', 'add', '--count', String(openDevices), '--prefix', 'bench-', '--csv']
  writeFileSync(csv, await run(devices, env))
  await using gateway = await start('gateway', env)
  await using worker = await start('worker', env)
  const pids = {
    gateway: gateway.pid,
    worker: worker.pid,
    Kafka: kafka.pid,
    Postgres: postgres.pid,
    ...(redis && { Redis: redis.pid }),
  }
  const common = { port: mqttPort, csv, warmupMs, readings, databaseUrl: postgres.url }
  if (only.has('closed')) {
    say('closed loop: fleetbridge')
    const closed = { ...common, name: 'fleetbridge', devices: clients, durationMs: closedMs }
    measured.push(await measure(closed, pids))
  }
  if (only.has('open')) {
    say(`open loop: fleetbridge, ${openRate} msg/s`)
    const open = { ...common, name: 'fleetbridge, open loop', devices: openDevices, rate: openRate, durationMs: openMs }
    measured.push(await measure(open, pids))
  }
}

async function start(command: 'gateway' | 'worker', env: NodeJS.ProcessEnv): Promise<BridgeProcess> {
  const opsPort = await freePort()
  const process = new BridgeProcess([command], { ...env, BRIDGE_OPS_PORT: String(opsPort) })
  await process.until(`${command} is ready`, async () => {
    const answer = await fetch(`http://127.0.0.1:${opsPort}/readyz`).catch(() => undefined)
    return answer?.ok === true
  })
  return process
}

async function measurePeer(): Promise<void> {
  await createPeerTopic(kafka)
  const csv = join(dir, 'peer.csv')
  writeFileSync(csv, Array.from({ length: clients }, (_, index) => `peer-${index},token-${index}`).join('\n'))
  const script = fileURLToPath(new URL('./peers/aedes-kafkajs.ts', import.meta.url))
  // Without its warnings: kafkajs sets timers into the past on this Node.
  const peer = spawn(process.execPath, ['--no-warnings', script, kafka.brokers, peerTopic], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    const [printed] = (await once(peer.stdout, 'data')) as [Buffer]
    say('closed loop: aedes + kafkajs')
    const load = {
      name: 'aedes + kafkajs',
      port: Number(printed.toString()),
      csv,
      devices: clients,
      warmupMs,
      durationMs: closedMs,
      readings,
    }
    measured.push(await measure(load, { gateway: peer.pid as number, Kafka: kafka.pid }))
  } finally {
    peer.kill('SIGKILL')
  }
}

async function createPeerTopic({ brokers }: KafkaServer): Promise<void> {
  const admin = createKafka([brokers], 'bench', silentLog).admin()
  await admin.connect()
  await admin.createTopics({ topics: [{ topic: peerTopic, numPartitions: partitions, replicationFactor: 1 }] })
  await admin.disconnect()
}

function writeResult(): string {
  const folder = fileURLToPath(new URL('./results/', import.meta.url))
  mkdirSync(folder, { recursive: true })
  const file = join(folder, `${new Date().toISOString().replaceAll(':', '-')}.json`)
  const machine = { node: process.version, cpus: cpus().length, model: cpus()[0]?.model }
  writeFileSync(file, `${JSON.stringify({ at: new Date().toISOString(), flags, machine, measured }, null, 2)}\n`)
  return file
}

function say(text: string): void {
  console.info(`${new Date().toISOString().slice(11, 19)} ${text}`)
}
