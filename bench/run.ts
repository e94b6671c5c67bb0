import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { createKafka } from '#platform/kafka-client.ts'
import { silentLog } from '#platform/log.ts'
import { freePort } from '#test/servers/free-port.ts'
import { startKafka } from '#test/servers/kafka.ts'
import { startPostgres } from '#test/servers/postgres.ts'
import { startRedis } from '#test/servers/redis.ts'
import { BridgeProcess, run } from '#test/stack/process.ts'
import { type Measured, measure } from './measure.ts'
import { resultTable } from './result-table.ts'

const usage = `node bench/run.ts [--quick] [--rounds 2] [--only closed,peer,open] [--redis]
  --quick     5 s a measurement and one round, for a look
  --rounds    how often closed loop and peer take turns
  --only      some of the measurements
  --redis     limits in Redis instead of in the gateway's memory`

const { values: flags } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
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
/** Kafka's JVM compiles its busiest code in the first half minute under load, at the cost of a core. */
const firstWarmupMs = flags.quick ? 2000 : 20_000
const rounds = Number(flags.rounds ?? (flags.quick ? 1 : 2))
const readings = 2
const clients = 100
const openDevices = 500
const openRate = 8000
const topicPrefix = 'bench'
/** Stock Aedes with one send a message, by what its producer promises. */
const peerPromises = ['idempotent', 'plain'] as const
const partitions = 12

// The tests' Kafka starts a second sooner with the quick compiler alone; here it shall run as it does for users.
process.env._JAVA_OPTIONS = '-XX:TieredStopAtLevel=4'

await using opened = new AsyncDisposableStack()
const kafka = opened.use(await startKafka())
const measured: Measured[] = []
const dir = mkdtempSync(join(tmpdir(), 'fleetbridge-bench-'))
opened.defer(() => rmSync(dir, { recursive: true, force: true }))

const fleetbridge = only.has('closed') || only.has('open') ? await startFleetbridge() : undefined
const peers = only.has('peer') ? await Promise.all(peerPromises.map(startPeer)) : []
// They take turns, so that none always has the Kafka that has run longer; what waits costs next to nothing.
for (let round = 1; round <= rounds; round++) {
  if (only.has('closed')) await fleetbridge?.closed(round)
  for (const peer of peers) await peer.closed(round)
}
if (only.has('open')) await fleetbridge?.open()

console.info(`\n${resultTable(measured)}\n`)
const ours = meanRate('fleetbridge')
for (const promise of peerPromises) {
  const theirs = meanRate(peerName(promise))
  if (ours > 0 && theirs > 0)
    console.info(`fleetbridge acknowledges ${(ours / theirs).toFixed(2)} × what ${peerName(promise)} does`)
}
console.info(`written to ${writeResult()}`)

function warmup(round: number): { warmupMs: number } {
  return { warmupMs: round === 1 ? firstWarmupMs : warmupMs }
}

function peerName(promise: (typeof peerPromises)[number]): string {
  return `aedes + kafkajs ${promise}`
}

function meanRate(name: string): number {
  const rates = measured.filter((one) => one.name === name).map(({ messagesPerSecond }) => messagesPerSecond)
  return rates.length === 0 ? 0 : rates.reduce((sum, rate) => sum + rate, 0) / rates.length
}

async function startFleetbridge() {
  const postgres = opened.use(await startPostgres({ durable: true }))
  const redis = flags.redis ? opened.use(await startRedis()) : undefined
  const mqttPort = await freePort()
  const env = {
    KAFKA_BROKERS: kafka.brokers,
    DATABASE_URL: postgres.url,
    ...(redis && { REDIS_URL: redis.url }),
    BRIDGE_KAFKA_TOPIC_PREFIX: topicPrefix,
    BRIDGE_KAFKA_PARTITIONS: String(partitions),
    BRIDGE_MQTT_PORT: String(mqttPort),
    BRIDGE_ADMIN_PORT: '0',
    BRIDGE_HTTP_PORT: '0',
    BRIDGE_LOG_LEVEL: 'warn',
  }
  await run(['init'], env)
  const csv = join(dir, 'fleet.csv')
  const devices = ['devices', 'add', '--count', String(openDevices), '--prefix', 'bench-', '--csv']
  writeFileSync(csv, await run(devices, env))
  const gateway = opened.use(await start('gateway', env))
  const worker = opened.use(await start('worker', env))
  const pids = {
    gateway: gateway.pid,
    worker: worker.pid,
    Kafka: kafka.pid,
    Postgres: postgres.pid,
    ...(redis && { Redis: redis.pid }),
  }
  const common = { port: mqttPort, csv, warmupMs, readings, databaseUrl: postgres.url }
  return {
    async closed(round: number): Promise<void> {
      say('closed loop: fleetbridge')
      const load = { ...common, ...warmup(round), name: 'fleetbridge', devices: clients, durationMs: closedMs }
      measured.push(await measure(load, pids))
    },
    async open(): Promise<void> {
      say(`open loop: fleetbridge, ${openRate} msg/s`)
      const load = {
        ...common,
        name: 'fleetbridge, open loop',
        devices: openDevices,
        rate: openRate,
        durationMs: openMs,
      }
      measured.push(await measure(load, pids))
    },
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

async function startPeer(promise: (typeof peerPromises)[number]) {
  const name = peerName(promise)
  const peerTopic = `bench-peer-${promise}`
  const admin = createKafka([kafka.brokers], 'bench', silentLog).admin()
  await admin.connect()
  opened.defer(() => admin.disconnect())
  await admin.createTopics({ topics: [{ topic: peerTopic, numPartitions: partitions, replicationFactor: 1 }] })
  const records = async () =>
    (await admin.fetchTopicOffsets(peerTopic)).reduce((sum, { offset }) => sum + Number(offset), 0)
  const csv = join(dir, `${promise}.csv`)
  writeFileSync(csv, Array.from({ length: clients }, (_, index) => `peer-${index},token-${index}`).join('\n'))
  const script = fileURLToPath(new URL('./peers/aedes-kafkajs.ts', import.meta.url))
  // Without its warnings: kafkajs sets timers into the past on this Node.
  const child = spawn(process.execPath, ['--no-warnings', script, kafka.brokers, peerTopic, promise], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  opened.defer(() => {
    child.kill('SIGKILL')
  })
  const [printed] = (await once(child.stdout, 'data')) as [Buffer]
  const common = { port: Number(printed.toString()), csv, devices: clients, warmupMs, readings }
  return {
    async closed(round: number): Promise<void> {
      say(`closed loop: ${name}`)
      const before = await records()
      const load = { ...common, ...warmup(round), name, durationMs: closedMs }
      const one = await measure(load, { gateway: child.pid as number, Kafka: kafka.pid })
      measured.push(one)
      // The warm-up's records are among them.
      const appended = (await records()) - before
      if (appended < one.report.acked)
        throw new Error(`the peer acknowledged ${one.report.acked} messages and Kafka has ${appended} of them`)
    },
  }
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
