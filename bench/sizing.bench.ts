/**
 * What a fleet of a given size needs: `node bench/sizing.bench.ts [--devices 100,1000,10000] [--every 5] [--seconds 30] [--readings 3]`.
 * One gateway, one worker, Kafka, Postgres (fsync on) and Redis as processes of this machine; each device sends a message every five seconds. Prints
 * the table of docs/operations.md: cores and memory of each process while they send, and what a reading takes on disk.
 */
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { freePort } from '#test/servers/free-port.ts'
import { startKafka } from '#test/servers/kafka.ts'
import { startPostgres } from '#test/servers/postgres.ts'
import { startRedis } from '#test/servers/redis.ts'
import { BridgeProcess, run } from '#test/stack/process.ts'
import { type Measured, measure } from './measure.ts'
import { memoryOf } from './process-memory.ts'

const { values: flags } = parseArgs({
  options: {
    devices: { type: 'string', default: '100,1000,10000' },
    every: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '30' },
    readings: { type: 'string', default: '3' },
  },
})
const sizes = flags.devices.split(',').map(Number)
const everySeconds = Number(flags.every)
const readings = Number(flags.readings)
const daySeconds = 86_400

interface Size {
  readonly measured: Measured
  /** Most bytes that were seen while devices were connected. */
  readonly memory: Readonly<Record<string, number>>
}

// The tests' Kafka starts a second sooner with the quick compiler alone; here it shall run as it does for users.
process.env._JAVA_OPTIONS = '-XX:TieredStopAtLevel=4'
await using opened = new AsyncDisposableStack()
const dir = mkdtempSync(join(tmpdir(), 'fleetbridge-sizing-'))
opened.defer(() => rmSync(dir, { recursive: true, force: true }))
const [kafka, postgres, redis] = await Promise.all([
  startKafka({ dir }).then((server) => opened.use(server)),
  startPostgres({ durable: true }).then((server) => opened.use(server)),
  startRedis().then((server) => opened.use(server)),
])
const mqttPort = await freePort()
const env = {
  KAFKA_BROKERS: kafka.brokers,
  DATABASE_URL: postgres.url,
  REDIS_URL: redis.url,
  BRIDGE_MQTT_PORT: String(mqttPort),
  BRIDGE_HTTP_PORT: '0',
  BRIDGE_LOG_LEVEL: 'warn',
  // They come from one address here.
  BRIDGE_MQTT_MAX_CONNECTIONS_PER_ADDRESS: '20000',
  BRIDGE_MQTT_CONNECT_RATE: '20000:10',
}
await run(['init'], env)
const gateway = opened.use(await start('gateway'))
const worker = opened.use(await start('worker'))
const pids = {
  gateway: gateway.pid,
  worker: worker.pid,
  Kafka: kafka.pid,
  Postgres: postgres.pid,
  Redis: redis.pid,
}

const results: Size[] = []
for (const devices of sizes) results.push(await measureSize(devices))
const disk = await measureDisk()
console.info(`\n${table(results)}\n`)
console.info(
  `on disk: ${disk.readingBytes.toFixed(0)} bytes a reading in Postgres with its indexes (${disk.rows} rows), ` +
    `${disk.messageBytes.toFixed(0)} bytes a message of ${readings} readings in Kafka, a copy; ` +
    `${cpus().length} cores (${cpus()[0]?.model}), everything on them`,
)

async function start(command: 'gateway' | 'worker'): Promise<BridgeProcess> {
  const opsPort = await freePort()
  const started = new BridgeProcess([command], { ...env, BRIDGE_OPS_PORT: String(opsPort) })
  await started.until(`${command} is ready`, async () => {
    const answer = await fetch(`http://127.0.0.1:${opsPort}/readyz`).catch(() => undefined)
    return answer?.ok === true
  })
  return started
}

async function measureSize(devices: number): Promise<Size> {
  console.info(`${new Date().toISOString().slice(11, 19)} ${devices} devices, a message each every ${everySeconds} s`)
  const csv = join(dir, `${devices}.csv`)
  const prefix = `sizing-${devices}-`
  writeFileSync(csv, await run(['devices', 'add', '--count', String(devices), '--prefix', prefix, '--csv'], env))
  const memory: Record<string, number> = {}
  const sample = setInterval(() => {
    for (const [name, pid] of Object.entries(pids)) memory[name] = Math.max(memory[name] ?? 0, memoryOf(pid))
  }, 2000)
  try {
    const measured = await measure(
      {
        name: `${devices}`,
        port: mqttPort,
        csv,
        devices,
        rate: devices / everySeconds,
        warmupMs: 5000,
        durationMs: Number(flags.seconds) * 1000,
        readings,
        databaseUrl: postgres.url,
      },
      pids,
    )
    if (measured.report.missing !== 0 || measured.report.doubled !== 0) throw new Error(JSON.stringify(measured.report))
    return { measured, memory }
  } finally {
    clearInterval(sample)
  }
}

async function measureDisk(): Promise<{ rows: number; readingBytes: number; messageBytes: number }> {
  const client = new pg.Client(postgres.url)
  await client.connect()
  try {
    await client.query('VACUUM reading')
    const { rows } = await client.query<{ rows: number; bytes: number; messages: number }>(
      `SELECT (SELECT count(*)::int FROM reading) AS rows, (SELECT sum(stored)::int FROM ingest_offset) AS messages,
              (SELECT sum(pg_total_relation_size(relid))::float8 FROM pg_partition_tree('reading') WHERE isleaf) AS bytes`,
    )
    const { rows: count = 0, bytes = 0, messages = 1 } = rows[0] ?? {}
    return { rows: count, readingBytes: bytes / count, messageBytes: logBytes() / messages }
  } finally {
    await client.end()
  }
}

/** Kafka's segments of the telemetry topic; its index files are made larger than they are yet. */
function logBytes(): number {
  const data = join(dir, 'data')
  return readdirSync(data)
    .filter((name) => name.startsWith('fleetbridge.telemetry.v1-'))
    .flatMap((name) => readdirSync(join(data, name)).map((file) => join(data, name, file)))
    .filter((file) => file.endsWith('.log'))
    .reduce((sum, file) => sum + statSync(file).size, 0)
}

function table(all: readonly Size[]): string {
  const perSecond = ({ measured }: Size) => measured.messagesPerSecond
  const asked = ({ measured: { report } }: Size) => report.rate.asked ?? report.rate.reached
  const rows: (readonly [string, (size: Size) => string])[] = [
    ['devices, each connected', ({ measured }) => String(measured.report.devices)],
    ['messages a second, asked and acknowledged', (size) => `${asked(size)}, ${perSecond(size).toFixed(0)}`],
    ['answer p50 / p99, ms', ({ measured: { report } }) => `${ms(report.ackMs?.p50)} / ${ms(report.ackMs?.p99)}`],
    ...Object.keys(pids).map(
      (name) =>
        [
          `${name}: cores, MiB`,
          (size: Size) =>
            `${(((size.measured.cpuUs[name] ?? 0) * perSecond(size)) / 1e6).toFixed(2)}, ${((size.memory[name] ?? 0) / 1_048_576).toFixed(0)}`,
        ] as const,
    ),
    ['Postgres a day', (size) => gib(asked(size) * readings * daySeconds * disk.readingBytes)],
    ['Kafka a day, a copy', (size) => gib(asked(size) * daySeconds * disk.messageBytes)],
    ['cores busy with other things', ({ measured }) => measured.otherCores.toFixed(2)],
    ['load generator kept pace', ({ measured }) => (measured.report.self.keptPace ? 'yes' : 'NO')],
  ]
  const [head, ...body] = rows.map(([name, cell]) => `| ${[name, ...all.map(cell)].join(' | ')} |`)
  return [head, `| --- |${' ---: |'.repeat(all.length)}`, ...body].join('\n')
}

function ms(value: number | undefined): string {
  return value === undefined ? '-' : value.toFixed(value < 10 ? 1 : 0)
}

function gib(bytes: number): string {
  return `${(bytes / 1_073_741_824).toFixed(bytes < 10_737_418_240 ? 2 : 0)} GiB`
}
