import { readFileSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Config } from '#platform/config-schema.ts'
import { writePrivateFile } from '#platform/data-dir.ts'
import { BridgeError } from '#platform/errors.ts'
import { isAlive, startMark } from '#platform/process-alive.ts'
import type { DeviceUrls } from './addresses.ts'

/** What runs in a data folder, as `up` writes it down for the other commands. URLs, or null where that part does not run. */
export interface Instance extends DeviceUrls {
  readonly version: string
  readonly startedAt: string
  readonly ops: string | null
  readonly admin: string | null
  /** With its password: the file is 0600. */
  readonly databaseUrl: string
  /** Folder of the embedded Postgres; null when DATABASE_URL named another. */
  readonly postgresPath: string | null
  readonly eventLog: 'direct' | 'kafka'
  readonly rateLimiter: 'memory' | 'redis'
  readonly ackLevel: string
  readonly pids: { readonly fleetbridge: number; readonly postgres?: number }
  /** Tells the process from a later one with the same id. */
  readonly startMark: string
}

const fileName = 'state.json'

export function writeInstance(dataDir: string, instance: Omit<Instance, 'startMark'>): void {
  writePrivateFile(join(dataDir, fileName), { ...instance, startMark: startMark(instance.pids.fleetbridge) })
}

export function forgetInstance(dataDir: string): void {
  rmSync(join(dataDir, fileName), { force: true })
}

/** The instance that runs in the data folder; undefined when none does, also when one was killed there. */
export function findInstance(dataDir: string): Instance | undefined {
  const path = join(resolve(dataDir), fileName)
  let instance: Instance
  try {
    instance = JSON.parse(readFileSync(path, 'utf8')) as Instance
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EACCES') return undefined
    throw new BridgeError(
      'BRIDGE_NOT_RUNNING',
      `${path} cannot be read: run this as the user who started fleetbridge`,
      {
        cause: error,
      },
    )
  }
  const { fleetbridge } = instance.pids
  return isAlive(fleetbridge) && startMark(fleetbridge) === instance.startMark ? instance : undefined
}

/**
 * The database that a command works on: DATABASE_URL, else that of the running instance.
 * @throws BridgeError BRIDGE_NOT_RUNNING
 */
export function findDatabase(config: Config): string {
  const url = config.database.url ?? findInstance(config.dataDir)?.databaseUrl
  if (url !== undefined) return url
  throw new BridgeError(
    'BRIDGE_NOT_RUNNING',
    `no fleetbridge runs on the data folder ${resolve(config.dataDir)}, and DATABASE_URL is not set. ` +
      'Start one with "npm start" in another terminal, or set DATABASE_URL (or BRIDGE_DATA_DIR, if it runs on another folder).',
  )
}

/** A database's address without what opens it. */
export function withoutPassword(databaseUrl: string): string {
  const url = new URL(databaseUrl)
  if (url.password !== '') url.password = '***'
  return url.href
}
