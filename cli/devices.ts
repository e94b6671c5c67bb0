import { Command, Option } from 'commander'
import { changeAliases } from '#gateway/admin/registry/aliases.ts'
import {
  changeStatus,
  type DeviceRow,
  type DeviceStatus,
  exportDevices,
  listDevices,
  type NewToken,
  showDevice,
} from '#gateway/admin/registry/devices.ts'
import { BridgeError } from '#platform/errors.ts'
import { credentialTable } from './credentials.ts'
import { csvLine } from './csv.ts'
import { type ImportFlags, importDevices } from './devices/import.ts'
import { openPrivateFile, streamSink } from './devices/private-file.ts'
import { whole } from './options.ts'
import { print, printJson, table } from './output.ts'
import { addDevices, addFleets, byUser } from './registry.ts'
import { fleetOf } from './snippets/snippet.ts'
import { type SnippetFlags, snippetPrinter, withSnippetOptions } from './snippets/snippet-options.ts'
import { withRegistry } from './with-registry.ts'

export function createDevicesCommand(): Command {
  const devices = new Command('devices').description('who may send')
  withSnippetOptions(devices.command('add'))
    .description('add devices; prints their tokens, which are shown this once')
    .argument('[ids...]', 'device ids: 1-128 bytes without + and #')
    .option('--count <n>', 'add this many, numbered from 1', whole(1, 100_000))
    .option('--prefix <text>', 'what their ids begin with', 'device-')
    .option('--tenant <name>', 'whose they are; made when it is new', 'default')
    .option('--type <name>', 'what kind they are: contracts and limits go by it (device-types)')
    .option(
      '--alias <name>',
      'another name under which its messages come (a Tasmota topic, a devEui); may be given several times, for one device',
      (name: string, before: readonly string[] | undefined) => [...(before ?? []), name],
    )
    .option('--csv', 'print device,token lines')
    .option('--json', 'print [{"device","token"}, …]')
    .addHelpText(
      'after',
      '\nExamples:\n  $ TOKEN=$(npx fleetbridge devices add pump-1)\n  $ npx fleetbridge devices add --count 500 --prefix load- --csv > fleet.csv\n  $ npx fleetbridge devices add pump-2 --for python --host gateway.example > device.py',
    )
    .action(add)
  devices
    .command('list')
    .description('list devices, in the order of their ids')
    .option('--tenant <name>', 'whose', 'default')
    .option('--prefix <text>', 'only those whose ids begin so')
    .addOption(
      new Option('--status <status>', 'only those; all but the removed ones when absent').choices([
        'enabled',
        'disabled',
        'removed',
        'all',
      ]),
    )
    .option('--limit <n>', 'at most so many', whole(1, 100_000), 1000)
    .option('--after <id>', 'only those after this one: the next page')
    .option('--json', 'print an array')
    .addHelpText(
      'after',
      '\nExamples:\n  $ npx fleetbridge devices list --json\n  $ npx fleetbridge devices list --prefix pump- --status disabled',
    )
    .action(list)
  devices
    .command('show')
    .description('show a device with its credentials')
    .argument('<id>', 'its id')
    .option('--tenant <name>', 'whose', 'default')
    .option('--json', 'print an object')
    .addHelpText('after', '\nExample:\n  $ npx fleetbridge devices show pump-1')
    .action(show)
  devices
    .command('alias')
    .description(
      'give a device other names under which its messages come: a Tasmota topic, a devEui, a Sparkplug GROUP/NODE',
    )
    .argument('<id>', 'its id')
    .argument('[names...]', 'other names; without any, those that it has are printed')
    .option('--remove', 'take these names away')
    .option('--tenant <name>', 'whose', 'default')
    .option('--json', 'print {"aliases": [name, …]}')
    .addHelpText(
      'after',
      '\nExamples:\n  $ npx fleetbridge devices alias plug-1 tasmota_1A2B3C\n  $ npx fleetbridge devices alias plug-1 --remove tasmota_1A2B3C',
    )
    .action(alias)
  addStatusCommand(devices, 'disable', 'disabled', 'take rights away for a while; connections end within 2 s')
  addStatusCommand(devices, 'enable', 'enabled', 'give a disabled device its rights back')
  addStatusCommand(
    devices,
    'remove',
    'removed',
    'remove for good: credentials are revoked, readings stay, the id is never given to another',
  )
  devices
    .command('import')
    .description(
      'add devices from a CSV whose first line names the columns device[,type,site,tenant,aliases]; safe to run twice',
    )
    .argument('<file>', 'the CSV; - is standard input')
    .option('--tenant <name>', 'whose they are where the file names none; made when it is new', 'default')
    .option('--out <file>', 'write device,token lines there (0600, added to what it holds) and not to standard output')
    .option('--rejects <file>', 'write line,device,reason of bad lines there and not to standard error')
    .option('--renew', 'new tokens for devices that are there; their old ones end after the overlap')
    .option('--overlap <time>', 'with --renew: how long the old ones stay good', '24h')
    .option('--json', 'with --out: print {"added","renewed","skipped","rejected","interrupted"}')
    .addHelpText(
      'after',
      '\nEnds with 1 when lines were rejected, 2 when the file is none, 130 after Ctrl-C.\n\nExample:\n  $ npx fleetbridge devices import fleet.csv --out tokens.csv --rejects rejects.csv',
    )
    .action((file: string, flags: ImportFlags) => importDevices(file, flags))
  devices
    .command('export')
    .description(
      'print all devices as CSV, as import takes it: device,type,site,tenant,status,created,aliases. No tokens: only hashes are kept',
    )
    .option('--tenant <name>', 'whose', 'default')
    .option('--out <file>', 'write there (0600) and not to standard output')
    .option('--json', 'print an object a line')
    .addHelpText('after', '\nExample:\n  $ npx fleetbridge devices export > devices.csv')
    .action(exportAll)
  return devices
}

interface AddFlags extends SnippetFlags {
  readonly count?: number
  readonly prefix: string
  readonly tenant: string
  readonly type?: string
  readonly alias?: readonly string[]
}

async function add(ids: readonly string[], flags: AddFlags): Promise<void> {
  const { count, prefix, tenant, type, alias: aliases, csv, json } = flags
  if ((ids.length === 0) === (count === undefined))
    throw new BridgeError(
      'BRIDGE_USAGE',
      'name devices (devices add pump-1 pump-2), or say how many (devices add --count 500)',
    )
  const names = count === undefined ? ids : Array.from({ length: count }, (_, index) => `${prefix}${index + 1}`)
  if (aliases !== undefined && names.length !== 1)
    throw new BridgeError(
      'BRIDGE_USAGE',
      '--alias is for one device; more come with the column aliases of devices import',
    )
  const printSnippets = snippetPrinter(flags, names.length)
  const fleet = flags.for === undefined ? undefined : fleetOf.get(flags.for)
  if (fleet === 'own') for (const name of names) checkTopicName(name)
  const made = await withRegistry((client) =>
    fleet === undefined
      ? addDevices(client, tenant, names, { type, aliases })
      : addFleets(client, { tenant, ids: names, type, aliases, isOwn: fleet === 'own' }),
  )
  if (printSnippets !== undefined) await printSnippets(made)
  else if (json) await printJson(made)
  else if (csv) await print(made.map(({ device, token }) => csvLine([device, token])).join('\n'))
  else if (made.length === 1) await print((made[0] as NewToken).token)
  else await print(made.map(({ device, token }) => `${device} ${token}`).join('\n'))
}

/** It becomes a level of topics that are typed into a console, and the pattern of its credential. */
function checkTopicName(name: string): void {
  if (!/^[\w.-]{1,64}$/.test(name))
    throw new BridgeError(
      'BRIDGE_USAGE',
      `${JSON.stringify(name)} becomes part of this firmware's topics: choose an id of A-Z, a-z, 0-9, _, . and -`,
    )
}

interface ListFlags {
  readonly tenant: string
  readonly prefix?: string
  readonly status?: DeviceStatus | 'all'
  readonly limit: number
  readonly after?: string
  readonly json?: true
}

async function list({ json, ...filter }: ListFlags): Promise<void> {
  const rows = await withRegistry((client) => listDevices(client, filter))
  if (json) return await printJson(rows)
  await print(deviceTable(rows))
}

function deviceTable(rows: readonly DeviceRow[]): string {
  const names = ['device', 'status', 'credentials', 'fleet', 'created', 'last reading']
  return table(
    names,
    rows.map(({ device, status, credentials, fleet, created, lastReading }) => [
      device,
      status,
      credentials,
      fleet ? 'yes' : '',
      created,
      lastReading,
    ]),
  )
}

async function show(device: string, { tenant, json }: { tenant: string; json?: true }): Promise<void> {
  const found = await withRegistry((client) => showDevice(client, tenant, device))
  if (json) return await printJson(found)
  const { credentials, aliases, ...facts } = found
  await print(table(['device', ''], Object.entries({ ...facts, aliases: aliases.join(' ') })))
  await print('')
  await print(credentialTable(credentials))
}

interface AliasFlags {
  readonly remove?: true
  readonly tenant: string
  readonly json?: true
}

async function alias(device: string, names: readonly string[], { remove, tenant, json }: AliasFlags): Promise<void> {
  if (remove && names.length === 0) throw new BridgeError('BRIDGE_USAGE', 'name the aliases to remove')
  const change = (aliases: readonly string[]) =>
    remove ? aliases.filter((name) => !names.includes(name)) : [...aliases, ...names]
  const aliases = await withRegistry((client) => changeAliases(client, byUser, { tenant, device, change }))
  if (json) await printJson({ aliases })
  else await print(aliases.length === 0 ? 'no aliases' : aliases.join('\n'))
}

function addStatusCommand(devices: Command, name: string, status: DeviceStatus, description: string): void {
  devices
    .command(name)
    .description(description)
    .argument('<ids...>', 'device ids; all or none')
    .option('--tenant <name>', 'whose', 'default')
    .option('--json', 'print {"changed": [id, …]}')
    .addHelpText('after', `\nExample:\n  $ npx fleetbridge devices ${name} pump-1`)
    .action(async (ids: readonly string[], { tenant, json }: { tenant: string; json?: true }) => {
      const changed = await withRegistry((client) => changeStatus(client, byUser, { tenant, devices: ids, status }))
      if (json) await printJson({ changed })
      else await print(changed.length === 0 ? `${status} already` : `${status}: ${changed.join(' ')}`)
    })
}

const exportColumns = ['device', 'type', 'site', 'tenant', 'status', 'created', 'aliases'] as const

async function exportAll({ tenant, out, json }: { tenant: string; out?: string; json?: true }): Promise<void> {
  const header = csvLine(exportColumns)
  await withRegistry(async (client) => {
    await using sink = out === undefined ? streamSink(process.stdout) : await openPrivateFile(out, header)
    if (out === undefined && !json) await sink.write([header])
    for await (const rows of exportDevices(client, tenant))
      await sink.write(
        rows.map((row) => (json ? JSON.stringify(row) : csvLine(exportColumns.map((column) => row[column])))),
      )
  }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error // `head` has seen enough
  })
}
