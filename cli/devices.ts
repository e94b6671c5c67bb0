import { Command, InvalidArgumentError } from 'commander'
import { loadConfig } from '#platform/config.ts'
import { BridgeError } from '#platform/errors.ts'
import { withDatabase } from './database.ts'
import { findDatabase } from './instance.ts'
import { print, printJson, table } from './output.ts'
import { addDevices, listDevices, type NewToken } from './registry.ts'
import { type SnippetFlags, snippetPrinter, withSnippetOptions } from './snippets/snippet-options.ts'

export function createDevicesCommand(): Command {
  const devices = new Command('devices').description('who may send')
  withSnippetOptions(devices.command('add'))
    .description('add devices; prints their tokens, which are shown this once')
    .argument('[ids...]', 'device ids: 1-128 bytes without + and #')
    .option('--count <n>', 'add this many, numbered from 1', whole)
    .option('--prefix <text>', 'what their ids begin with', 'device-')
    .option('--tenant <name>', 'whose they are; made when it is new', 'default')
    .option('--csv', 'print device,token lines')
    .option('--json', 'print [{"device","token"}, …]')
    .addHelpText(
      'after',
      '\nExamples:\n  $ TOKEN=$(npx fleetbridge devices add pump-1)\n  $ npx fleetbridge devices add --count 500 --prefix load- --csv > fleet.csv\n  $ npx fleetbridge devices add pump-2 --for python --host gateway.example > device.py',
    )
    .action(add)
  devices
    .command('list')
    .description('list devices')
    .option('--tenant <name>', 'whose', 'default')
    .option('--limit <n>', 'at most so many', whole, 1000)
    .option('--json', 'print an array')
    .addHelpText('after', '\nExample:\n  $ npx fleetbridge devices list --json')
    .action(list)
  return devices
}

interface AddFlags extends SnippetFlags {
  readonly count?: number
  readonly prefix: string
  readonly tenant: string
}

async function add(ids: readonly string[], flags: AddFlags): Promise<void> {
  const { count, prefix, tenant, csv, json } = flags
  if ((ids.length === 0) === (count === undefined))
    throw new BridgeError(
      'BRIDGE_USAGE',
      'name devices (devices add pump-1 pump-2), or say how many (devices add --count 500)',
    )
  const names = count === undefined ? ids : Array.from({ length: count }, (_, index) => `${prefix}${index + 1}`)
  const printSnippets = snippetPrinter(flags, names.length)
  const made = await withDatabase(findDatabase(loadConfig(process.env)), (client) => addDevices(client, tenant, names))
  if (printSnippets !== undefined) await printSnippets(made)
  else if (json) await printJson(made)
  else if (csv) await print(made.map(asCsv).join('\n'))
  else if (made.length === 1) await print((made[0] as NewToken).token)
  else await print(made.map(({ device, token }) => `${device} ${token}`).join('\n'))
}

/** RFC 4180. */
function asCsv({ device, token }: NewToken): string {
  return `${/[",\r\n]/.test(device) ? `"${device.replaceAll('"', '""')}"` : device},${token}`
}

async function list({ tenant, limit, json }: { tenant: string; limit: number; json?: true }): Promise<void> {
  const rows = await withDatabase(findDatabase(loadConfig(process.env)), (client) => listDevices(client, tenant, limit))
  if (json) return await printJson(rows)
  const names = ['device', 'status', 'credentials', 'fleet', 'created', 'last reading']
  await print(
    table(
      names,
      rows.map(({ device, status, credentials, fleet, created, lastReading }) => [
        device,
        status,
        credentials,
        fleet ? 'yes' : '',
        created,
        lastReading,
      ]),
    ),
  )
}

function whole(text: string): number {
  const value = Number(text)
  if (!/^\d{1,6}$/.test(text) || value < 1 || value > 100_000)
    throw new InvalidArgumentError('It must be a whole number from 1 to 100000.')
  return value
}
