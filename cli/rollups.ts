import { Command } from 'commander'
import { momentOf } from '#gateway/admin/registry/times.ts'
import { loadConfig } from '#platform/config.ts'
import { createLog } from '#platform/log.ts'
import { rebuildRollups } from '#worker/rollup/rebuild.ts'
import { findDatabase } from './instance.ts'
import { print, printJson } from './output.ts'

interface Flags {
  readonly tenant?: string
  readonly device?: string
  readonly from?: string
  readonly to?: string
  readonly json?: true
}

export function createRollupsCommand(): Command {
  const rollups = new Command('rollups').description('the readings by ten minutes and by hours, which workers keep')
  rollups
    .command('rebuild')
    .description(
      'compute rollups from the readings again: once after an upgrade from a version without them, or when rows of "reading" were changed by hand. Workers may run meanwhile',
    )
    .option('--tenant <name>', 'only devices of this tenant; "default" with --device')
    .option('--device <id>', 'only this device')
    .option('--from <time>', 'readings from then on: 7d ago, or a time such as 2030-01-31T12:00:00Z')
    .option('--to <time>', 'readings before then')
    .option('--json', 'print {"buckets"}')
    .addHelpText(
      'after',
      '\nExamples:\n  $ npx fleetbridge rollups rebuild\n  $ npx fleetbridge rollups rebuild --device pump-1 --from 7d',
    )
    .action(rebuild)
  return rollups
}

async function rebuild({ device, tenant, from, to, json }: Flags): Promise<void> {
  const config = loadConfig(process.env)
  let told = 0
  const buckets = await rebuildRollups({
    databaseUrl: findDatabase(config),
    retention: config.retention,
    tenant: tenant ?? (device === undefined ? undefined : 'default'),
    device,
    fromMs: from === undefined ? undefined : momentOf(from, '--from').getTime(),
    toMs: to === undefined ? undefined : momentOf(to, '--to').getTime(),
    log: createLog('fleetbridge', 'warn'),
    onProgress: (done, share) => {
      if (json || !process.stderr.isTTY || Date.now() - told < 500) return
      told = Date.now()
      process.stderr.write(`\r${Math.floor(share * 100)} %, ${done} buckets `)
    },
  })
  if (told > 0) process.stderr.write('\n')
  if (json) await printJson({ buckets })
  else await print(`${buckets} buckets of 10 minutes computed, and their hours`)
}
