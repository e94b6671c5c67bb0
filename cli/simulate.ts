import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { Command, InvalidArgumentError, Option } from 'commander'
import { loadConfig } from '#platform/config.ts'
import { BridgeError } from '#platform/errors.ts'
import { parseDurationMs } from '#simulator/duration.ts'
import { maxReadings } from '#simulator/payload.ts'
import { reportText } from '#simulator/report.ts'
import { simulate } from '#simulator/simulate.ts'
import type { DeviceLogin } from '#simulator/transport.ts'
import { withDatabase } from './database.ts'
import { findInstance } from './instance.ts'
import { whole } from './options.ts'
import { print, printJson } from './output.ts'
import { addDevices } from './registry.ts'
import { csvLogins } from './simulate/csv-logins.ts'
import { neededDatabase, openRowsPool } from './simulate/rows-database.ts'
import { builtInScenarios, runScenario, type ScenarioFlags } from './simulate/run-scenario.ts'

interface Flags {
  readonly scenario?: string
  readonly devices?: number
  readonly rate?: number
  readonly duration?: number
  readonly mqtt?: true
  readonly http?: true
  readonly url?: readonly URL[]
  readonly csv?: string
  readonly databaseUrl?: string
  readonly readings: number
  readonly qos: 0 | 1
  readonly protocol: 4 | 5
  readonly seed?: number
  readonly drain: number
  readonly settle: number
  readonly verify: boolean
  readonly workers: number
  readonly journal?: string
  readonly html?: string
  readonly ca?: string
  readonly cleanup?: true
  readonly json?: true | string
}

export function createSimulateCommand(): Command {
  return new Command('simulate')
    .description('let devices send numbered readings, then compare every acknowledged one with the rows')
    .option('--scenario <name>', `a fleet as a file describes it, or one of ${builtInScenarios().join(', ')}`)
    .addOption(new Option('--mqtt', 'send over MQTT, a connection a device (the default)').conflicts('http'))
    .addOption(new Option('--http', 'send over HTTP, a request a message'))
    .option('--devices <count>', 'devices to register (200); their ids begin with sim-<run>-', whole(1, 100_000))
    .option('--rate <messages>', 'messages a second, all devices together, whatever the answers do (2000)', above0)
    .option('--duration <time>', 'how long to send: 500ms, 30s, 5m, 1h (30s)', duration)
    .option(
      '--url <url>',
      'mqtt://host:port or http://host:port; for a scenario also mqtts, ws, wss and https, once for each; the running instance when absent',
      url,
    )
    .option('--csv <file>', 'use these devices: lines of device,token, as "devices add --csv" prints them')
    .option('--database-url <url>', 'where to register devices and compare rows; DATABASE_URL or the running instance')
    .option('--readings <count>', 'readings in a message: its number and some signals', whole(1, maxReadings), 2)
    .option('--qos <qos>', 'MQTT: 1 awaits acknowledgements, 0 does not', oneOf(0, 1), 1)
    .option('--protocol <version>', 'MQTT: 4 is 3.1.1, 5 is 5.0', oneOf(4, 5), 4)
    .option('--seed <number>', 'makes values and the order of devices again', whole(0, 4_294_967_295))
    .option('--drain <time>', 'how long to wait for the last answers', duration, 30_000)
    .option('--settle <time>', 'how long to wait for the rows', duration, 120_000)
    .option('--no-verify', 'do not compare with the rows')
    .option('--workers <count>', 'scenario: processes that share the devices', whole(1, 64), 1)
    .option('--journal <file>', 'scenario: keep the journal, for "fleetbridge audit"; with --workers FILE.1, FILE.2, …')
    .option('--html <file>', 'scenario: write a page with charts')
    .option('--ca <file>', "scenario: PEM of the authority of the gateway's certificate")
    .option('--cleanup', 'scenario: remove the devices afterwards; their rows stay')
    .option('--json [file]', 'print one JSON object, or write it to a file')
    .addHelpText(
      'after',
      '\nEnds with 1 when an acknowledged message has no row, or one has two. Ctrl-C stops sending and still compares.' +
        '\nA scenario: npx fleetbridge simulate --scenario factory --duration 60s --html report.html (docs/simulator.md)',
    )
    .action(run)
}

async function run(flags: Flags): Promise<void> {
  const stop = new AbortController()
  const interrupted = () => {
    if (stop.signal.aborted) process.exit(130)
    process.stderr.write('\nstopping: waiting for the last answers, then comparing (again to leave at once)\n')
    stop.abort()
  }
  process.on('SIGINT', interrupted)
  process.on('SIGTERM', interrupted)
  try {
    if (flags.scenario === undefined) await runSteady(flags, stop.signal)
    else await runScenario(scenarioFlags(flags, flags.scenario, stop.signal))
  } finally {
    process.off('SIGINT', interrupted)
    process.off('SIGTERM', interrupted)
  }
}

function scenarioFlags(flags: Flags, scenario: string, signal: AbortSignal): ScenarioFlags {
  for (const name of ['rate', 'mqtt', 'http'] as const)
    if (flags[name] !== undefined) throw new BridgeError('BRIDGE_USAGE', `--${name} is the scenario's to say`)
  return {
    scenario,
    devices: flags.devices,
    durationMs: flags.duration,
    urls: flags.url ?? [],
    csv: flags.csv,
    databaseUrl: flags.databaseUrl,
    seed: flags.seed ?? randomBytes(4).readUInt32BE(),
    run: randomBytes(4).toString('hex'),
    workers: flags.workers,
    journal: flags.journal,
    json: flags.json,
    html: flags.html,
    ca: flags.ca,
    cleanup: flags.cleanup === true,
    verify: flags.verify,
    drainMs: flags.drain,
    settleMs: flags.settle,
    signal,
  }
}

/** One kind of device at a steady rate: what benchmarks use. */
async function runSteady(flags: Flags, signal: AbortSignal): Promise<void> {
  const protocol = flags.http ? 'http' : 'mqtt'
  const csv = flags.csv === undefined ? undefined : csvLogins(flags.csv)
  const { host, port, databaseUrl } = findPlace(protocol, flags)
  const runId = randomBytes(4).toString('hex')
  const logins = csv ?? (await register(databaseUrl, runId, flags.devices ?? 200))
  const pool = flags.verify ? openRowsPool(neededDatabase(databaseUrl)) : undefined
  try {
    const report = await simulate({
      runId,
      protocol,
      host,
      port,
      rate: flags.rate ?? 2000,
      durationMs: flags.duration ?? 30_000,
      logins,
      readings: flags.readings,
      qos: flags.qos,
      protocolVersion: flags.protocol,
      seed: flags.seed ?? randomBytes(4).readUInt32BE(),
      pool,
      connectMs: 30_000,
      drainMs: flags.drain,
      settleMs: flags.settle,
      progress: process.stderr,
      signal,
    })
    if (typeof flags.json === 'string') writeFileSync(flags.json, `${JSON.stringify(report)}\n`)
    if (flags.json === true) await printJson(report)
    else await print(reportText(report))
    if (!report.ok) process.exitCode = 1
  } finally {
    await pool?.end()
  }
}

interface Place {
  readonly host: string
  readonly port: number
  readonly databaseUrl: string | undefined
}

/** Flags, else the environment, else the instance that runs here, else this machine's configured ports. */
function findPlace(protocol: 'mqtt' | 'http', { url: [given] = [], databaseUrl }: Flags): Place {
  if (given !== undefined && given.protocol !== `${protocol}:`)
    throw new BridgeError('BRIDGE_USAGE', `--url ${given.href} does not go with --${protocol}`)
  const config = loadConfig(process.env)
  const instance = findInstance(config.dataDir)
  const running = instance?.[protocol]
  const address = given ?? new URL(running ?? `${protocol}://127.0.0.1:${config[protocol].port}`)
  return {
    host: address.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: Number(address.port || (protocol === 'mqtt' ? 1883 : 80)),
    databaseUrl: databaseUrl ?? config.database.url ?? instance?.databaseUrl,
  }
}

async function register(databaseUrl: string | undefined, runId: string, count: number): Promise<DeviceLogin[]> {
  const digits = String(count).length
  const ids = Array.from({ length: count }, (_, index) => `sim-${runId}-${String(index + 1).padStart(digits, '0')}`)
  return await withDatabase(neededDatabase(databaseUrl), (client) => addDevices(client, 'default', ids))
}

function above0(text: string): number {
  const value = Number(text)
  if (!/^\d{1,7}(\.\d{1,6})?$/.test(text) || value <= 0)
    throw new InvalidArgumentError('It must be a number above 0 and below 10,000,000.')
  return value
}

function oneOf(...allowed: readonly number[]): (text: string) => number {
  return (text) => {
    const value = allowed.find((one) => String(one) === text)
    if (value === undefined) throw new InvalidArgumentError(`It must be ${allowed.join(' or ')}.`)
    return value
  }
}

function duration(text: string): number {
  const ms = parseDurationMs(text)
  if (ms === undefined || ms > 86_400_000)
    throw new InvalidArgumentError('It must be a time such as 500ms, 30s, 5m or 1h, at most 24h.')
  return ms
}

function url(text: string, before: readonly URL[] | undefined): URL[] {
  const parsed = URL.canParse(text) ? new URL(text) : undefined
  const protocols = ['mqtt:', 'mqtts:', 'ws:', 'wss:', 'http:', 'https:']
  if (parsed === undefined || !protocols.includes(parsed.protocol) || parsed.hostname === '')
    throw new InvalidArgumentError('It must be mqtt://host:port or http://host:port.')
  return [...(before ?? []), parsed]
}
