import { resolve } from 'node:path'
import { Command } from 'commander'
import { loadConfig } from '#platform/config.ts'
import { livePostmaster } from '#platform/embedded-postgres-cluster.ts'
import { BridgeError } from '#platform/errors.ts'
import { findInstance } from './instance.ts'
import { print, printJson } from './output.ts'

export function createStatusCommand(): Command {
  return new Command('status')
    .description('what runs on this data folder; ends with 1 when nothing does')
    .option(
      '--json',
      'print one object: mqtt, mqtts, http, https, ws, wss, ops, admin (URLs or null), databaseUrl, eventLog, rateLimiter, ackLevel, pids',
    )
    .addHelpText('after', '\nExample:\n  $ npx fleetbridge status --json')
    .action(status)
}

async function status({ json }: { json?: true }): Promise<void> {
  const { dataDir } = loadConfig(process.env)
  const instance = findInstance(dataDir)
  if (instance === undefined)
    throw new BridgeError(
      'BRIDGE_NOT_RUNNING',
      `no fleetbridge runs on the data folder ${resolve(dataDir)}. Start one with "npm start", or name its folder in BRIDGE_DATA_DIR.`,
    )
  const { postgresPath, startMark: _mark, pids, databaseUrl, ...rest } = instance
  const postgres = postgresPath === null ? undefined : livePostmaster(postgresPath)?.pid
  const shown = {
    ...rest,
    databaseUrl: postgresPath === null ? null : databaseUrl,
    dataDir: resolve(dataDir),
    pids: { fleetbridge: pids.fleetbridge, ...(postgres !== undefined && { postgres }) },
  }
  if (json) return await printJson(shown)
  const lines = Object.entries(shown).map(([name, value]) => {
    const text =
      value === null
        ? 'none'
        : typeof value === 'object'
          ? Object.entries(value).join('  ').replaceAll(',', ' ')
          : value
    return `${name.padEnd(12)} ${text}`
  })
  await print(lines.join('\n'))
}
