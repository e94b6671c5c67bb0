import { readFile } from 'node:fs/promises'
import { configPath } from '#platform/config.ts'
import { BridgeError } from '#platform/errors.ts'
import { type Handle, handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'
import type { Metrics } from '#platform/metrics.ts'
import { watchFiles } from '#platform/watched-files.ts'
import { readRoutes } from './read-routes.ts'
import { type Route, type Routed, type Routes, RouteTable } from './route-table.ts'

export interface LiveRoutes extends Routes, Handle {
  /** How many rules are in force. */
  readonly size: number
  /** Reads the table again now, as at SIGHUP. A bad one is refused with a log line, and the one before stays. Never rejects. */
  reload(): Promise<void>
}

export interface LiveRoutesOptions {
  readonly environment: NodeJS.ProcessEnv
  readonly log: Log
  readonly metrics: Metrics
  readonly pollMs?: number
}

/**
 * The route table of the configuration (`BRIDGE_ROUTES`, else `routes:` in the file), read again when the file changes.
 * @throws {BridgeError} BRIDGE_CONFIG_INVALID that lists everything that is wrong with the table at the start
 */
export async function startRoutes({ environment, log, metrics, pollMs }: LiveRoutesOptions): Promise<LiveRoutes> {
  let table = await readTable(environment)
  const reloads = metrics.counter(
    'fleetbridge_route_reloads_total',
    'Route tables that were read while running, and whether they could be used',
    ['result'],
    [{ result: 'accepted' }, { result: 'refused' }],
  )
  metrics.gauge('fleetbridge_routes', 'Entries of the route table in force', () => table.size)

  async function take(): Promise<void> {
    if (hasOwnTable(environment)) return
    try {
      // A file that was there and is gone is a mistake, or on its way.
      table = await readTable(environment, table.size > 0 ? configPath(environment) : undefined)
      reloads.inc({ result: 'accepted' })
    } catch (error) {
      reloads.inc({ result: 'refused' })
      throw error
    }
  }

  // The environment of a process does not change, so there is a file to look at or nothing.
  const paths = hasOwnTable(environment) ? [] : [configPath(environment)]
  const files = await watchFiles(paths, take, { log, standStill: true, ...(pollMs !== undefined && { pollMs }) })
  return {
    ...handleOf(async () => files.close()),
    get size() {
      return table.size
    },
    find: (routed: Routed): Route | undefined => table.find(routed),
    hasPath: (topic: string): boolean => table.hasPath(topic),
    async reload() {
      try {
        await take()
        log.info({ routes: table.size }, 'the route table was read again')
      } catch (error) {
        log.error(
          { err: error },
          'the route table cannot be used; the one before stays. Mend it and send SIGHUP again.',
        )
      }
    },
  }
}

/**
 * A table from a file that is named, as `--routes FILE` does, or from the configuration.
 * @throws {BridgeError} BRIDGE_CONFIG_INVALID that lists everything that is wrong with it
 */
export async function readTable(environment: NodeJS.ProcessEnv, file?: string): Promise<RouteTable> {
  const isOwn = file === undefined && hasOwnTable(environment)
  const path = file ?? configPath(environment)
  const mayBeAbsent = file === undefined && environment.BRIDGE_CONFIG === undefined
  const text = isOwn ? (environment.BRIDGE_ROUTES as string) : await textOf(path, mayBeAbsent)
  const { rules, problems } = readRoutes(text, isOwn ? 'BRIDGE_ROUTES' : path)
  if (problems.length === 0) return new RouteTable(rules)
  throw new BridgeError(
    'BRIDGE_CONFIG_INVALID',
    `the route table has ${problems.length === 1 ? 'a problem' : `${problems.length} problems`}:\n${problems.map((problem) => `  - ${problem}`).join('\n')}\nSee docs/routes.md.`,
  )
}

function hasOwnTable({ BRIDGE_ROUTES: own }: NodeJS.ProcessEnv): boolean {
  return own !== undefined && own !== ''
}

async function textOf(path: string, mayBeAbsent: boolean): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    if (mayBeAbsent && (cause as NodeJS.ErrnoException).code === 'ENOENT') return ''
    throw new BridgeError('BRIDGE_CONFIG_INVALID', `${path} cannot be read: ${(cause as Error).message}`, { cause })
  }
}
