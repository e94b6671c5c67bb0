import { fork } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { Report } from '#simulator/report.ts'
import { freePort } from '#test/servers/free-port.ts'
import { startPostgres } from '#test/servers/postgres.ts'
import { startRedis } from '#test/servers/redis.ts'
import { BridgeProcess, run } from '#test/stack/process.ts'
import type { LoadMessage, LoadOptions } from './load.ts'

/**
 * One device floods while others publish as ever: `node bench/abuse.bench.ts [--others 500] [--flood 5000] [--seconds 30] [--rounds 3]
 * [--limit 5:1] [--redis]`.
 * Against `fleetbridge up` with Postgres (fsync on). The others publish once a second each, QoS 1, and their answers are timed from when each
 * message was due; without the flood and beside it in turns, since other work on the machine comes and goes. Whatever was acknowledged, the flooder's too, is looked up
 * in Postgres.
 */
const { values } = parseArgs({
  options: {
    others: { type: 'string', default: '500' },
    flood: { type: 'string', default: '5000' },
    seconds: { type: 'string', default: '30' },
    rounds: { type: 'string', default: '3' },
    limit: { type: 'string', default: '5:1' },
    redis: { type: 'boolean', default: false },
  },
})
const others = Number(values.others)
const floodRate = Number(values.flood)
const durationMs = Number(values.seconds) * 1000
const loadScript = fileURLToPath(new URL('./load.ts', import.meta.url))

await using opened = new AsyncDisposableStack()
const dir = mkdtempSync(join(tmpdir(), 'fleetbridge-abuse-'))
opened.defer(() => rmSync(dir, { recursive: true, force: true }))
const postgres = opened.use(await startPostgres({ durable: true }))
const redis = values.redis ? opened.use(await startRedis()) : undefined
const [port, opsPort] = [await freePort(), await freePort()]
const env = {
  DATABASE_URL: postgres.url,
  ...(redis && { REDIS_URL: redis.url }),
  BRIDGE_DATA_DIR: join(dir, 'data'),
  BRIDGE_MQTT_PORT: String(port),
  BRIDGE_HTTP_PORT: '0',
  BRIDGE_OPS_PORT: String(opsPort),
  BRIDGE_LIMITS_DEVICE: values.limit,
  BRIDGE_LOG_LEVEL: 'warn',
}
const up = opened.use(new BridgeProcess(['up'], env))
await up.until('it waits for messages', () => up.output.includes('waiting for the first message'))
const fleet = await devicesOf('other-', others)

console.info(`${others} devices at 1 msg/s, one at ${floodRate} msg/s, limit ${values.limit}, ${values.seconds} s each`)
const rssMb: number[] = []
const sampler = setInterval(() => rssMb.push(memoryMb()), 1000)
await othersSend('warm-up', 10_000)
const [alone, beside]: [number[], number[]] = [[], []]
for (let round = 1; round <= Number(values.rounds); round++) {
  alone.push(await measured('without the flood'))
  const flooding = flood(await devicesOf(`flooder-${round}-`, 1))
  beside.push(await measured('beside the flood'))
  await flooding
}
clearInterval(sampler)
const [before, after] = [median(alone), median(beside)]
console.info(
  `the others' p99, median of the rounds: ${before.toFixed(1)} ms without, ${after.toFixed(1)} ms beside the flood: × ${(after / before).toFixed(2)}`,
)

async function flood(csv: string): Promise<void> {
  const closedBefore = await closedForLimit()
  const report = await load({ ...common(csv, 'flood'), devices: 1, rate: floodRate, durationMs: durationMs + 2000 })
  console.info(
    `the flooder        ${report.due} due, ${report.acked} acknowledged (${lost(report)}), closed ${(await closedForLimit()) - closedBefore} times ` +
      `for its limit, back ${report.reconnects} times`,
  )
}

function closedForLimit(): Promise<number> {
  return counter('fleetbridge_mqtt_closed_total{reason="rate_limited"}')
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] as number
}

async function othersSend(name: string, forMs: number): Promise<Report> {
  return await load({ ...common(fleet, name), devices: others, rate: others, durationMs: forMs })
}

/** @returns the others' p99 in milliseconds */
async function measured(name: string): Promise<number> {
  rssMb.length = 0
  const report = await othersSend(name, durationMs)
  const { ackMs } = report
  if (ackMs === null) throw new Error('nothing was acknowledged')
  const [first, last, most] = [rssMb[0] ?? 0, rssMb.at(-1) ?? 0, Math.max(...rssMb)]
  console.info(
    `${name.padEnd(18)} p50 ${ackMs.p50.toFixed(1)} ms, p99 ${ackMs.p99.toFixed(1)} ms, max ${ackMs.max.toFixed(0)} ms; ` +
      `${report.acked} of ${report.due} acknowledged, ${lost(report)}; gateway ${first} → ${last} MB, at most ${most}` +
      `${report.self.keptPace ? '' : '; the load generator did not keep pace'}`,
  )
  return ackMs.p99
}

function lost({ compared, missing, doubled }: Report): string {
  return compared ? `${missing} missing, ${doubled} doubled` : 'not compared'
}

function common(csv: string, name: string) {
  return { name, port, csv, warmupMs: 0, readings: 2, databaseUrl: postgres.url }
}

async function load(options: LoadOptions): Promise<Report> {
  const child = fork(loadScript, [JSON.stringify(options)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  return await new Promise((resolve, reject) => {
    let report: Report | undefined
    child.on('message', (message: LoadMessage) => {
      if ('report' in message) ({ report } = message)
    })
    child.on('exit', (code) =>
      report === undefined ? reject(new Error(`the load ended with ${code} and no report`)) : resolve(report),
    )
  })
}

async function devicesOf(prefix: string, count: number): Promise<string> {
  const csv = join(dir, `${prefix}.csv`)
  writeFileSync(csv, await run(['devices', 'add', '--count', String(count), '--prefix', prefix, '--csv'], env))
  return csv
}

/** Of the process that is gateway and writer in one. */
function memoryMb(): number {
  const kb = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${up.pid}/status`, 'utf8'))?.[1]
  return Math.round(Number(kb) / 1024)
}

async function counter(series: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${opsPort}/metrics`)).text()
  return Number(
    text
      .split('\n')
      .find((line) => line.startsWith(series))
      ?.split(' ')[1] ?? 0,
  )
}
