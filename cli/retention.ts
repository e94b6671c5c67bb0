import { setTimeout as sleep } from 'node:timers/promises'
import { Command } from 'commander'
import { loadConfig } from '#platform/config.ts'
import { BridgeError } from '#platform/errors.ts'
import { createLog } from '#platform/log.ts'
import { type RetentionReport, runRetention } from '#worker/retention/retention.ts'
import { print, printJson, table } from './output.ts'
import { withRegistry } from './with-registry.ts'

interface Flags {
  readonly dryRun?: boolean
  readonly json?: true
}

const busyTries = 60

export function createRetentionCommand(): Command {
  const retention = new Command('retention').description(
    'take away what is older than it is kept: BRIDGE_RETENTION_READING, _ROLLUP10M, _ROLLUP1H, and tenants that keep less',
  )
  retention
    .command('run')
    .description('do now what a worker does once a day. Writers and readers go on meanwhile; safe to run twice')
    .option('--dry-run', 'only say what would go')
    .option('--json', 'print {"ranges","tenants"}')
    .addHelpText(
      'after',
      '\nExamples:\n  $ npx fleetbridge retention run --dry-run\n  $ BRIDGE_RETENTION_READING=30d npx fleetbridge retention run --dry-run --json',
    )
    .action(run)
  return retention
}

async function run({ dryRun: isDryRun = false, json }: Flags): Promise<void> {
  const { retention: kept } = loadConfig(process.env)
  const log = createLog('fleetbridge', 'warn')
  const report = await withRegistry(async (client) => {
    for (let tries = 0; tries < busyTries; tries++) {
      const done = await runRetention({ client, kept, log, isDryRun })
      if (done !== undefined) return done
      await sleep(1000)
    }
    throw new BridgeError('BRIDGE_USAGE', 'another process takes away what is old just now; try again in some minutes')
  })
  if (json) await printJson(report)
  else await print(textOf(report, isDryRun))
}

function textOf({ ranges, tenants }: RetentionReport, isDryRun: boolean): string {
  const would = isDryRun ? 'would go' : 'gone'
  if (ranges.length + tenants.length === 0) return 'nothing is past its retention'
  const rows = [
    ...ranges.map(({ table: name, fromMs, toMs, bytes }) => [
      name,
      `${day(fromMs)} to ${day(toMs)}`,
      `${(bytes / 1e6).toFixed(1)} MB`,
    ]),
    ...tenants.map(({ tenant, days, readings }) => [
      `tenant ${tenant}`,
      `older than ${days} d`,
      `${readings} readings`,
    ]),
  ]
  return table(['what', 'from when', would], rows)
}

function day(ms: number): string {
  return Number.isFinite(ms) ? new Date(ms).toISOString().slice(0, 10) : 'ever'
}
