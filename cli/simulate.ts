import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Command, InvalidArgumentError, Option } from 'commander'
import pg from 'pg'
import { loadConfig } from '#platform/config.ts'
import { BridgeError } from '#platform/errors.ts'
import { parseDurationMs } from '#simulator/duration.ts'
import { readLogins } from '#simulator/logins.ts'
import { maxReadings } from '#simulator/payload.ts'
import { reportText } from '#simulator/report.ts'
import { simulate } from '#simulator/simulate.ts'
import type { DeviceLogin } from '#simulator/transport.ts'
import { withDatabase } from './database.ts'
import { findInstance } from './instance.ts'
import { print, printJson } from './output.ts'
import { addDevices } from './registry.ts'

interface Flags {
  readonly devices: number
  readonly rate: number
  readonly duration: number
  readonly mqtt?: true
  readonly http?: true
  readonly url?: URL
  readonly csv?: string
  readonly databaseUrl?: string
  readonly readings: number
  readonly qos: 0 | 1
  readonly protocol: 4 | 5
  readonly seed?: number
  readonly drain: number
  readonly settle: number
  readonly verify: boolean
  readonly json?: true
}

export function createSimulateCommand(): Command {
  return new Command('simulate')
    .description('send numbered readings at a steady rate, then compare every acknowledged one with the rows')
    .addOption(new Option('--mqtt', 'send over MQTT, a connection a device (the default)').conflicts('http'))
    .addOption(new Option('--http', 'send over HTTP, a request a message'))
    .option('--devices <count>', 'devices to register; their ids begin with sim-<run>-', whole(1, 100_000), 200)
    .option('--rate <messages>', 'messages a second, all devices together, whatever the answers do', above0, 2000)
    .option('--duration <time>', 'how long to send: 500ms, 30s, 5m, 1h', duration, 30_000)
    .option('--url <url>', 'mqtt://host:port or http://host:port; the running instance when absent', url)
    .option('--csv <file>', 'use these devices: lines of device,token, as "devices add --csv" prints them')
    .option('--database-url <url>', 'where to register devices and compare rows; DATABASE_URL or the running instance')
    .option('--readings <count>', 'readings in a message: its number and some signals', whole(1, maxReadings), 2)
    .option('--qos <qos>', 'MQTT: 1 awaits acknowledgements, 0 does not', oneOf(0, 1), 1)
    .option('--protocol <version>', 'MQTT: 4 is 3.1.1, 5 is 5.0', oneOf(4, 5), 4)
    .option('--seed <number>', 'makes values and the order of devices again', whole(0, 4_294_967_295))
    .option('--drain <time>', 'how long to wait for the last answers', duration, 30_000)
    .option('--settle <time>', 'how long to wait for the rows', duration, 120_000)
    .option('--no-verify', 'do not compare with the rows')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      '\nEnds with 1 when an acknowledged message has no row, or one has two. Ctrl-C stops sending and still compares.',
    )
    .action(run)
}

async function run(flags: Flags): Promise<void> {
  const protocol = flags.http ? 'http' : 'mqtt'
  const csv = flags.csv === undefined ? undefined : readCsv(flags.csv)
  const { host, port, databaseUrl } = findPlace(protocol, flags)
  const runId = randomBytes(4).toString('hex')
  const logins = csv ?? (await register(databaseUrl, runId, flags.devices))
  const pool = flags.verify ? openPool(databaseUrl) : undefined
  const stop = new AbortController()
  const interrupted = () => {
    if (stop.signal.aborted) process.exit(130)
    process.stderr.write('\nstopping: waiting for the last answers, then comparing (again to leave at once)\n')
    stop.abort()
  }
  process.on('SIGINT', interrupted)
  process.on('SIGTERM', interrupted)
  try {
    const report = await simulate({
      runId,
      protocol,
      host,
      port,
      rate: flags.rate,
      durationMs: flags.duration,
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
      signal: stop.signal,
    })
    if (flags.json) await printJson(report)
    else await print(reportText(report))
    if (!report.ok) process.exitCode = 1
  } finally {
    process.off('SIGINT', interrupted)
    process.off('SIGTERM', interrupted)
    await pool?.end()
  }
}

interface Place {
  readonly host: string
  readonly port: number
  readonly databaseUrl: string | undefined
}

/** Flags, else the environment, else the instance that runs here, else this machine's configured ports. */
function findPlace(protocol: 'mqtt' | 'http', { url: given, databaseUrl }: Flags): Place {
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
  return await withDatabase(needed(databaseUrl), (client) => addDevices(client, 'default', ids))
}

function openPool(databaseUrl: string | undefined): pg.Pool {
  const pool = new pg.Pool({
    connectionString: needed(databaseUrl),
    max: 2,
    application_name: 'fleetbridge simulate',
    connectionTimeoutMillis: 10_000,
  })
  // A connection that breaks while nobody asks: the next question opens another.
  pool.on('error', () => {})
  return pool
}

function needed(databaseUrl: string | undefined): string {
  if (databaseUrl !== undefined) return databaseUrl
  throw new BridgeError(
    'BRIDGE_NOT_RUNNING',
    'nothing runs here and DATABASE_URL is not set: start one with "npm start", give --database-url, or use --csv with --no-verify',
  )
}

function readCsv(file: string): DeviceLogin[] {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    throw new BridgeError('BRIDGE_USAGE', `--csv ${file} cannot be read: ${(error as Error).message}`, { cause: error })
  }
  return readLogins(text)
}

function whole(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (!/^\d{1,10}$/.test(text) || value < least || value > most)
      throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`)
    return value
  }
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

function url(text: string): URL {
  const parsed = URL.canParse(text) ? new URL(text) : undefined
  if (parsed === undefined || !['mqtt:', 'http:'].includes(parsed.protocol) || parsed.hostname === '')
    throw new InvalidArgumentError('It must be mqtt://host:port or http://host:port.')
  return parsed
}
