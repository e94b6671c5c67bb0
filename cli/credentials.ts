import { randomBytes } from 'node:crypto'
import { Command, Option } from 'commander'
import { loadConfig } from '#platform/config.ts'
import { BridgeError } from '#platform/errors.ts'
import { withDatabase } from './database.ts'
import { findDatabase } from './instance.ts'
import { print, printJson } from './output.ts'
import { addCredential, addFleetCredential } from './registry.ts'

interface Flags {
  readonly fleet?: true
  readonly device?: string
  readonly name?: string
  readonly pattern?: string
  readonly tenant: string
  readonly json?: true
}

export function createCredentialsCommand(): Command {
  const credentials = new Command('credentials').description('tokens')
  credentials
    .command('add')
    .description('add a token; it is shown this once')
    .addOption(new Option('--fleet', 'one that speaks for many devices and brings in unknown ones').conflicts('device'))
    .option('--device <id>', 'one more for a device that is there')
    .option('--name <name>', 'with --fleet: its own device id (a random one when absent)')
    .option('--pattern <glob>', "with --fleet: the devices it may speak for, such as 'site1-*' (any when absent)")
    .option('--tenant <name>', 'whose', 'default')
    .option('--json', 'print {"device","token"}')
    .addHelpText(
      'after',
      "\nExamples:\n  $ npx fleetbridge credentials add --fleet --name gw-1 --pattern 'site1-*' --json\n  $ npx fleetbridge credentials add --device pump-1",
    )
    .action(add)
  return credentials
}

async function add({ fleet, device, name, pattern, tenant, json }: Flags): Promise<void> {
  if ((fleet === undefined) === (device === undefined))
    throw new BridgeError('BRIDGE_USAGE', 'say --fleet, or --device with the id of a device that is there')
  if (device !== undefined && (name !== undefined || pattern !== undefined))
    throw new BridgeError('BRIDGE_USAGE', '--name and --pattern belong to --fleet')
  const made = await withDatabase(findDatabase(loadConfig(process.env)), (client) =>
    device !== undefined
      ? addCredential(client, tenant, device)
      : addFleetCredential(client, { tenant, name: name ?? `fleet-${randomBytes(4).toString('hex')}`, pattern }),
  )
  if (json) await printJson(made)
  else await print(made.token)
}
