import { readFileSync } from 'node:fs'
import { Command, Option } from 'commander'
import {
  assignDeviceType,
  listDeviceTypes,
  removeDeviceType,
  setDeviceType,
  showDeviceType,
} from '#gateway/admin/registry/device-types.ts'
import type { ContractMode } from '#gateway/normalize/contract.ts'
import { BridgeError } from '#platform/errors.ts'
import { print, printJson, table } from './output.ts'
import { byUser } from './registry.ts'
import { withRegistry } from './with-registry.ts'

interface TenantFlags {
  readonly tenant: string
  readonly json?: true
}

interface SetFlags extends TenantFlags {
  readonly identity?: 'value' | 'message'
  readonly mode?: ContractMode
  readonly contract?: string
  readonly silentAfter?: string
}

export function createDeviceTypesCommand(): Command {
  const types = new Command('device-types').description(
    'what holds for all devices of a type: data contracts, and how messages are told apart',
  )
  withTenant(types.command('list'))
    .description('list the device types that have rules')
    .option('--json', 'print an array')
    .addHelpText('after', '\nExample:\n  $ npx fleetbridge device-types list')
    .action(async ({ tenant, json }: TenantFlags) => {
      const rows = await withRegistry((client) => listDeviceTypes(client, tenant))
      if (json) return await printJson(rows)
      const names = ['type', 'identity', 'contract', 'metrics', 'devices']
      const cells = rows.map(({ type, identity, mode, contract, devices }) => [
        type,
        identity,
        mode,
        Object.keys(contract?.metrics ?? {}).length,
        devices,
      ])
      await print(table(names, cells))
    })
  withTenant(types.command('show'))
    .description('show a device type with its contract')
    .argument('<type>', 'its name')
    .option('--json', 'print an object')
    .addHelpText('after', '\nExample:\n  $ npx fleetbridge device-types show pump --json')
    .action(async (type: string, { tenant, json }: TenantFlags) => {
      const row = await withRegistry((client) => showDeviceType(client, tenant, type))
      await (json ? printJson(row) : print(JSON.stringify(row, null, 2)))
    })
  withTenant(types.command('set'))
    .description(
      'set what holds for a device type; what is not named stays as it is. Every gateway knows it within 2 s',
    )
    .argument('<type>', 'its name, as devices have it')
    .addOption(
      new Option(
        '--identity <identity>',
        'message: equal values of one instant are readings of their own, as for pulses',
      ).choices(['value', 'message']),
    )
    .addOption(
      new Option('--mode <mode>', 'messages against the contract: off, warn (stored and counted) or park').choices([
        'off',
        'warn',
        'park',
      ]),
    )
    .option('--contract <file>', 'its contract, JSON (docs/contracts.md); - is standard input, none takes it away')
    .option(
      '--silent-after <seconds>',
      'how long its devices may be still before they are silent; 0 for ever, learnt: as each used to',
    )
    .option('--json', 'print an object')
    .addHelpText('after', '\nExample:\n  $ npx fleetbridge device-types set pump --contract pump.json --mode warn')
    .action(async (type: string, { tenant, identity, mode, contract, silentAfter, json }: SetFlags) => {
      const silentAfterSeconds = silentAfter === undefined ? undefined : secondsIn(silentAfter)
      const change = {
        tenant,
        type,
        identity,
        mode,
        silentAfterSeconds,
        ...(contract !== undefined && { contract: contractIn(contract) }),
      }
      const row = await withRegistry((client) => setDeviceType(client, byUser, change))
      if (json) await printJson(row)
      else await print(`${type}: identity ${row.identity}, contract ${row.mode}, ${row.devices} devices`)
    })
  withTenant(types.command('remove'))
    .description('remove the rules of a device type; its devices keep its name')
    .argument('<type>', 'its name')
    .option('--json', 'print {"type"}')
    .addHelpText('after', '\nExample:\n  $ npx fleetbridge device-types remove pump')
    .action(async (type: string, { tenant, json }: TenantFlags) => {
      await withRegistry((client) => removeDeviceType(client, byUser, tenant, type))
      await (json ? printJson({ type }) : print('removed'))
    })
  withTenant(types.command('assign'))
    .description('say of devices that they are of this type, all or none')
    .argument('<type>', 'its name; - for none')
    .argument('<devices...>', 'device ids')
    .option('--json', 'print {"changed": n}')
    .addHelpText('after', '\nExample:\n  $ npx fleetbridge device-types assign pump pump-1 pump-2')
    .action(async (type: string, devices: readonly string[], { tenant, json }: TenantFlags) => {
      const wanted = { tenant, type: type === '-' ? null : type, devices }
      const changed = await withRegistry((client) => assignDeviceType(client, byUser, wanted))
      await (json ? printJson({ changed }) : print(`${changed} device${changed === 1 ? '' : 's'}`))
    })
  return types
}

function secondsIn(text: string): number | null {
  if (text === 'learnt') return null
  if (/^\d{1,9}$/.test(text)) return Number(text)
  throw new BridgeError('BRIDGE_USAGE', '--silent-after is a number of seconds, 0 for ever, or learnt')
}

function withTenant(command: Command): Command {
  return command.option('--tenant <name>', 'whose', 'default')
}

function contractIn(file: string): unknown {
  if (file === 'none') return null
  try {
    return JSON.parse(readFileSync(file === '-' ? 0 : file, 'utf8'))
  } catch (error) {
    throw new BridgeError('BRIDGE_USAGE', `${file} cannot be read as JSON: ${(error as Error).message}`, {
      cause: error,
    })
  }
}
