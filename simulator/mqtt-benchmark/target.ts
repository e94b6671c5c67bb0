import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import pg from 'pg'
import { BridgeError } from '#platform/errors.ts'
import type { Broker } from './tool.ts'

/** What is measured: where the tool sends, whose CPU counts, and how many rows there are. */
export interface Target extends AsyncDisposable {
  readonly name: string
  readonly logins: readonly Broker[]
  /** Process ids by what they are called in the table. */
  readonly pids: ReadonlyMap<string, number>
  /** Rows of the run so far; undefined where nothing is stored. */
  rows?(): Promise<number>
}

const program = fileURLToPath(new URL('../../bin/fleetbridge.js', import.meta.url))

/** The members of `fleetbridge status --json` that we read. */
interface Status {
  readonly mqtt: string | null
  readonly databaseUrl: string | null
  readonly pids: Readonly<Record<string, number>>
}

export interface OwnOptions {
  /** tcp://host:port; the running instance when absent. */
  readonly broker?: string | undefined
  /** Devices that are registered for the run: the tool's clients are shared out among them. */
  readonly devices: number
  readonly pids: ReadonlyMap<string, number>
}

/** fleetbridge, with devices of its own for this run. */
export async function openOwn({ broker, devices, pids }: OwnOptions): Promise<Target> {
  const status = await runningInstance()
  const databaseUrl = process.env.DATABASE_URL ?? status?.databaseUrl
  const url = broker ?? status?.mqtt?.replace(/^mqtt:/, 'tcp:')
  if (url === undefined || databaseUrl === undefined || databaseUrl === null)
    throw new BridgeError(
      'BRIDGE_NOT_RUNNING',
      'no fleetbridge runs here. Start one with "npm start" in another terminal, or give --broker tcp://host:port and DATABASE_URL',
    )
  const run = `mqtt-benchmark-${Date.now().toString(36)}-`
  const added = JSON.parse(
    await fleetbridge(['devices', 'add', '--count', String(devices), '--prefix', run, '--json']),
  ) as { device: string; token: string }[]
  const pool = new pg.Pool({ connectionString: databaseUrl, max: 1, application_name: 'fleetbridge mqtt-benchmark' })
  pool.on('error', () => {})
  return {
    name: 'fleetbridge',
    logins: added.map(({ device, token }) => ({
      url,
      topic: 'devices/me/telemetry',
      username: device,
      password: token,
    })),
    pids: pids.size > 0 ? pids : new Map(Object.entries(status?.pids ?? {})),
    async rows() {
      const { rows } = await pool.query<{ count: string }>(
        `SELECT count(*) FROM reading WHERE device_id IN (SELECT id FROM device WHERE external_id = ANY ($1))
           AND metric_id IN (SELECT id FROM metric WHERE name = 'mqtt_benchmark')`,
        [added.map(({ device }) => device)],
      )
      return Number(rows[0]?.count)
    },
    [Symbol.asyncDispose]: () => pool.end(),
  }
}

/** Another broker: it says only what it acknowledged. */
export function peerTarget(broker: Broker, pids: ReadonlyMap<string, number>, processes: number): Target {
  return {
    name: broker.url,
    logins: Array.from({ length: processes }, () => broker),
    pids,
    async [Symbol.asyncDispose]() {},
  }
}

async function runningInstance(): Promise<Status | undefined> {
  try {
    return JSON.parse(await fleetbridge(['status', '--json'])) as Status
  } catch {
    return undefined
  }
}

async function fleetbridge(args: readonly string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [program, ...args], { maxBuffer: 64 * 1024 * 1024 })
  return stdout
}
