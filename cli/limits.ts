import { Command, Option } from 'commander'
import { type LimitScope, listLimits, setLimit, unsetLimit } from '#gateway/admin/registry/limits.ts'
import type { ShownLimit } from '#gateway/rate-limit/limit-inspector.ts'
import { adminApi } from './admin-api.ts'
import { print, printJson, table } from './output.ts'
import { byUser } from './registry.ts'
import { withRegistry } from './with-registry.ts'

interface Flags {
  readonly tenant: string
  readonly device?: string
  readonly type?: string
  readonly json?: true
}

/** Rows that `list` shows at most. */
const listed = 10_000
const settingHelp = 'as in the configuration: device, deviceReadings, deviceBytes, fleet, …, tenant, …'

export function createLimitsCommand(): Command {
  const limits = new Command('limits').description('limits of one tenant, device type or device; see docs/limits.md')
  scoped(limits.command('set'))
    .description('set a limit for a device, a type or a tenant; every gateway knows it within 2 s')
    .argument('<setting>', settingHelp)
    .argument('<windows>', '100:1,2000:60 or none')
    .option('--json', 'print {"changed": true or false}')
    .addHelpText(
      'after',
      '\nExamples:\n  $ npx fleetbridge limits set device 10:1 --device pump-1' +
        '\n  $ npx fleetbridge limits set deviceReadings 1000:1,20000:60 --type pump' +
        '\n  $ npx fleetbridge limits set tenant 5000:1 --tenant acme',
    )
    .action(async (setting: string, windows: string, flags: Flags) => {
      const changed = await withRegistry((client) => setLimit(client, byUser, scopeOf(flags), { setting, windows }))
      if (flags.json) await printJson({ changed })
      else await print(changed ? `set: ${setting} ${windows} for ${nameOf(flags)}` : 'it was so already')
    })
  scoped(limits.command('unset'))
    .description('take such a limit away: the wider one, or the configuration, holds again')
    .argument('<setting>', settingHelp)
    .option('--json', 'print {"changed": true or false}')
    .addHelpText('after', '\nExample:\n  $ npx fleetbridge limits unset device --device pump-1')
    .action(async (setting: string, flags: Flags) => {
      const changed = await withRegistry((client) => unsetLimit(client, byUser, scopeOf(flags), setting))
      if (flags.json) await printJson({ changed })
      else await print(changed ? `unset: ${setting} for ${nameOf(flags)}` : `${nameOf(flags)} had no ${setting}`)
    })
  limits
    .command('list')
    .description('list what was set for a tenant, its types and devices')
    .option('--tenant <name>', 'whose', 'default')
    .option('--json', 'print an array')
    .addHelpText('after', '\nExample:\n  $ npx fleetbridge limits list --tenant acme')
    .action(async ({ tenant, json }: Flags) => {
      const rows = await withRegistry((client) => listLimits(client, tenant, listed))
      if (json) return await printJson(rows)
      await print(
        table(
          ['for', 'setting', 'windows', 'changed'],
          rows.map(({ device, type, setting, windows, changed }) => [
            nameOf({ tenant, ...(device !== null && { device }), ...(type !== null && { type }) }),
            setting,
            windows,
            changed,
          ]),
        ),
      )
    })
  limits
    .command('show')
    .description('which limits hold for a device, where each was set, and what is left of it')
    .argument('<device>', 'its id')
    .option('--tenant <name>', 'whose', 'default')
    .option('--json', 'print {"tenant","device","limits":[{"limit","setting","windows","from","levels"}]}')
    .addHelpText(
      'after',
      '\nExample:\n  $ npx fleetbridge limits show pump-1\n\n' +
        'The running gateway is asked, by its admin API: BRIDGE_ADMIN_HOST, BRIDGE_ADMIN_PORT, BRIDGE_ADMIN_TOKEN.',
    )
    .action(show)
  return limits
}

async function show(device: string, { tenant, json }: Flags): Promise<void> {
  const path = `/devices/${encodeURIComponent(device)}/limits?tenant=${encodeURIComponent(tenant)}`
  const answer = await adminApi().get<{ limits: ShownLimit[] }>(path)
  if (json) return await printJson(answer)
  const rows = answer.limits.flatMap<readonly unknown[]>(({ limit, windows, from, levels }) =>
    levels.length === 0
      ? [[limit, windows, from, null, null]]
      : levels.map(({ burst, seconds, left, resetMs }) => [
          limit,
          `${burst} in ${seconds} s`,
          from,
          left,
          resetMs <= 0 ? 'now' : `${(resetMs / 1000).toFixed(1)} s`,
        ]),
  )
  await print(table(['limit', 'window', 'set for', 'left', 'full again in'], rows))
}

function scoped(command: Command): Command {
  return command
    .addOption(new Option('--device <id>', 'for this device').conflicts('type'))
    .option('--type <name>', 'for all devices of this type')
    .option('--tenant <name>', 'whose; without --device and --type the limit is for the whole tenant', 'default')
}

function scopeOf({ tenant, device, type }: Flags): LimitScope {
  return { tenant, device, type }
}

function nameOf({ tenant, device, type }: Flags): string {
  if (device !== undefined) return `device ${device}`
  return type === undefined ? `tenant ${tenant}` : `type ${type}`
}
