import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { startKafka } from '#test/servers/kafka.ts'
import { startPostgres } from '#test/servers/postgres.ts'
import { type BenchResult, comparison, mediansOf, readResult } from './compare.ts'
import { type BenchedFleetbridge, startFleetbridge } from './fleetbridge.ts'
import type { LoadOptions } from './load.ts'
import { type Measured, measure } from './measure.ts'
import { type AedesPeer, startAedes } from './peers/aedes.ts'
import { programOf, startMosquitto, startTelegraf } from './peers/mosquitto.ts'
import { writePerformancePage } from './performance-page.ts'
import { peerRatios, ratioLines } from './ratios.ts'
import { resultTable } from './result-table.ts'

const all = ['closed', 'peers', 'open', 'ramp', 'http', 'idle'] as const
const usage = `npm run bench -- [--quick] [--rounds 3] [--only ${all.join(',')}] [--redis] [--docs]
npm run bench -- --compare BEFORE AFTER
  --quick     5 s a measurement and one round, for a look
  --rounds    how often fleetbridge and its peers are measured in turns; the median counts. The other loads are measured once
  --only      some of the measurements
  --redis     limits in Redis instead of in the gateway's memory
  --docs      put the table into docs/performance.md
  --compare   two files of bench/results: what the second is to the first
Peers that are there take part: mosquitto (or MOSQUITTO=file), telegraf (or TELEGRAF=file) between mosquitto and Postgres.`

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    only: { type: 'string', default: all.join(',') },
    redis: { type: 'boolean', default: false },
    compare: { type: 'boolean', default: false },
    docs: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
if (flags.help) {
  console.info(usage)
  process.exit(0)
}
if (flags.compare) {
  const [before, after] = positionals
  if (before === undefined || after === undefined) {
    console.error(usage)
    process.exit(2)
  }
  console.info(comparison(readResult(before), readResult(after)))
  process.exit(0)
}

const only = new Set(flags.only.split(','))
const rounds = Number(flags.rounds ?? (flags.quick ? 1 : 3))
const sendMs = flags.quick ? 5000 : 10_000
const openMs = flags.quick ? 5000 : 60_000
const rampMs = flags.quick ? 3000 : 10_000
const warmupMs = flags.quick ? 2000 : 3000
/** Kafka's JVM compiles its busiest code in the first half minute under load, at the cost of a core. */
const firstWarmupMs = flags.quick ? 2000 : 20_000
const readings = 2
const clients = 100
const partitions = 12
const openDevices = 500
const openRate = 8000
const rampRates = [4000, 8000, 12_000, 16_000, 20_000, 24_000]
const idleDevices = 2000
const httpBatch = 100
const promises = ['idempotent', 'plain', 'none'] as const

// The tests' Kafka starts a second sooner with the quick compiler alone; here it shall run as it does for users.
process.env._JAVA_OPTIONS = '-XX:TieredStopAtLevel=4'

await using opened = new AsyncDisposableStack()
const dir = mkdtempSync(join(tmpdir(), 'fleetbridge-bench-'))
opened.defer(() => rmSync(dir, { recursive: true, force: true }))
const kafka = opened.use(await startKafka())
const measured: Measured[] = []
const warm = new Set<string>()
const databases: string[] = []

const bridge = opened.use(await startFleetbridge(kafka, dir, { devices: idleDevices, partitions, redis: flags.redis }))
databases.push(bridge.databaseUrl)
const peers = only.has('peers') ? await startPeers() : []

// First: memory that a load has brought stays for a while.
if (only.has('idle')) await idle(bridge)
// In turns, ours before and after each two peers: a ratio is of neighbours, whichever way the machine drifts meanwhile.
for (let round = 1; round <= rounds; round++) {
  say(`round ${round} of ${rounds}`)
  // The one that ended the round before begins this one.
  if (only.has('closed') && (round === 1 || peers.length === 0)) await closedLoop(bridge)
  for (const [index, peer] of peers.entries()) {
    await peer()
    if (only.has('closed') && (index % 2 === 1 || index === peers.length - 1)) await closedLoop(bridge)
  }
}
if (only.has('http')) await httpLoads(bridge)
if (only.has('open')) await openLoop(bridge, 'open loop', openRate, openMs)
if (only.has('ramp')) await ramp(bridge)

const medians = mediansOf(measured)
console.info(`\n${resultTable(medians)}\n`)
const ratios = peerRatios(measured, readings)
for (const line of ratioLines(ratios, readings)) console.info(line)
if (flags.docs) writePerformancePage(measured, ratioLines(ratios, readings), commitNow())
console.info(`written to ${writeResult()}`)

async function closedLoop({ mqttPort: port, csv, databaseUrl, pids }: BenchedFleetbridge): Promise<void> {
  await take({ name: 'fleetbridge', port, csv, databaseUrl, devices: clients, durationMs: sendMs }, pids)
}

async function openLoop(target: BenchedFleetbridge, name: string, rate: number, durationMs: number): Promise<Measured> {
  const { mqttPort: port, csv, databaseUrl, pids } = target
  return await take(
    { name: `fleetbridge, ${name}`, port, csv, databaseUrl, devices: openDevices, rate, durationMs },
    pids,
  )
}

/** Rising rates until the answers take longer than a second, or the pace is lost. */
async function ramp(target: BenchedFleetbridge): Promise<void> {
  for (const rate of rampRates) {
    const { report, messagesPerSecond } = await openLoop(target, `${rate} msg/s`, rate, rampMs)
    if ((report.ackMs?.p99 ?? 0) > 1000 || messagesPerSecond < rate * 0.95) return
  }
}

async function httpLoads({ httpPort: port, csv, databaseUrl, pids }: BenchedFleetbridge): Promise<void> {
  const common = { port, csv, databaseUrl, durationMs: sendMs, protocol: 'http' } as const
  await take({ ...common, name: 'fleetbridge, HTTP', devices: clients }, pids)
  const script = 'http-batch-load.ts'
  await take({ ...common, name: 'fleetbridge, HTTP by 100', devices: 20, batch: httpBatch }, pids, { script })
}

/** Devices that are connected and send once a minute: what a connection costs. */
async function idle({ mqttPort: port, csv, databaseUrl, pids }: BenchedFleetbridge): Promise<void> {
  const load = {
    name: `fleetbridge, ${idleDevices} idle`,
    port,
    csv,
    databaseUrl,
    devices: idleDevices,
    rate: idleDevices / 60,
    durationMs: sendMs,
  }
  await take(load, pids)
}

async function startPeers(): Promise<(() => Promise<void>)[]> {
  const found: (() => Promise<void>)[] = []
  const csv = join(dir, 'peer.csv')
  writeFileSync(csv, Array.from({ length: clients }, (_, index) => `peer-${index},token-${index}`).join('\n'))
  const common = { csv, devices: clients, durationMs: sendMs }
  for (const promise of promises) {
    const name = promise === 'none' ? 'aedes alone' : `aedes + kafkajs ${promise}`
    const peer: AedesPeer = opened.use(await startAedes(promise, kafka, partitions))
    found.push(async () => {
      const before = await peer.records()
      const one = await take({ ...common, name, port: peer.port }, { gateway: peer.pid, Kafka: kafka.pid })
      const appended = (await peer.records()) - before // the warm-up's are among them
      if (promise !== 'none' && appended < one.report.acked)
        throw new Error(`${name} acknowledged ${one.report.acked} messages and Kafka has ${appended} of them`)
    })
  }
  const mosquittoFile = programOf('mosquitto', 'MOSQUITTO')
  if (mosquittoFile === undefined) return found
  const mosquitto = opened.use(await startMosquitto(mosquittoFile, dir))
  found.push(async () => {
    await take({ ...common, name: 'mosquitto alone', port: mosquitto.port }, { gateway: mosquitto.pid })
  })
  const telegrafFile = programOf('telegraf', 'TELEGRAF')
  if (telegrafFile === undefined) return found
  const behind = join(dir, 'behind')
  mkdirSync(behind)
  const second = opened.use(await startMosquitto(mosquittoFile, behind))
  const postgres = opened.use(await startPostgres({ durable: true }))
  databases.push(postgres.url)
  const telegraf = opened.use(await startTelegraf(telegrafFile, behind, second.port, postgres.url))
  opened.defer(() => telegraf.end())
  found.push(async () => {
    let before = 0
    const pids = { gateway: second.pid, worker: telegraf.pid, Postgres: postgres.pid }
    const load = { ...common, name: 'mosquitto + telegraf', port: second.port }
    await take(load, pids, {
      // The rows of the warm-up come first: those of the run are what was acknowledged in it.
      rowsOf: async (acked) => {
        let rows = -1
        let lastAtMs = performance.now()
        while (performance.now() - lastAtMs < 5000) {
          const now = await telegraf.count()
          if (now !== rows) lastAtMs = performance.now()
          rows = now
          await sleep(100)
        }
        const stored = rows - before
        before = rows
        return { rows: Math.min(stored, acked), lastAtMs }
      },
    })
  })
  return found
}

/** A checkpoint and the pages it writes are of the load before: none of them shall land in the next one's window. */
async function checkpoint(): Promise<void> {
  for (const connectionString of databases) {
    const client = new pg.Client({ connectionString })
    await client.connect()
    await client.query('CHECKPOINT').finally(() => client.end())
  }
}

async function take(
  load: Omit<LoadOptions, 'warmupMs' | 'readings'>,
  pids: Readonly<Record<string, number>>,
  more: Parameters<typeof measure>[2] = {},
): Promise<Measured> {
  await checkpoint()
  say(load.name)
  const first = !warm.has(load.name.split(',')[0] as string)
  warm.add(load.name.split(',')[0] as string)
  const one = await measure({ ...load, readings, warmupMs: first ? firstWarmupMs : warmupMs }, pids, more)
  measured.push(one)
  return one
}

function writeResult(): string {
  const folder = fileURLToPath(new URL('./results/', import.meta.url))
  mkdirSync(folder, { recursive: true })
  const commit = commitNow()
  const at = new Date().toISOString()
  const file = join(folder, `${at.replaceAll(':', '-').slice(0, 19)}-${commit}.json`)
  const machine = { node: process.version, cpus: cpus().length, model: cpus()[0]?.model }
  writeFileSync(
    file,
    `${JSON.stringify({ at, commit, machine, measured, ratios } satisfies BenchResult, undefined, 2)}\n`,
  )
  return file
}

function commitNow(): string {
  const cwd = fileURLToPath(new URL('.', import.meta.url))
  return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd, encoding: 'utf8' }).trim()
}

function say(text: string): void {
  console.info(`${new Date().toISOString().slice(11, 19)} ${text}`)
}
