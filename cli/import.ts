import { createInterface } from 'node:readline/promises'
import { Command, InvalidArgumentError, Option } from 'commander'
import { BridgeError } from '#platform/errors.ts'
import { type DryRun, dryRun } from './import/dry-run.ts'
import { fingerprintOf, forgetState } from './import/import-state.ts'
import { type MappingFlags, mappingFlags, mappingOf } from './import/mapping.ts'
import { findPlace, oldestUs } from './import/place.ts'
import { type FileFormat, formatOf, openRows } from './import/row-source.ts'
import { type ImportResult, runImport } from './import/run-import.ts'
import { autoFormat, offsetMinutesOf, timeReader } from './import/time-format.ts'
import type { ConvertOptions } from './import/to-reading.ts'
import { whole } from './options.ts'
import { print, printJson, table } from './output.ts'

interface Flags extends MappingFlags {
  readonly format?: FileFormat
  readonly delimiter?: string
  readonly timeFormat: string
  readonly utcOffset?: string
  readonly unit: ReadonlyMap<string, string>
  readonly null: string
  readonly decimalComma?: true
  readonly tenant: string
  readonly url?: string
  readonly token?: string
  readonly rejects?: string
  readonly messageRows: number
  readonly parallel: number
  readonly restart?: true
  readonly dryRun?: true
  readonly yes?: true
  readonly json?: true
}

export function createImportCommand(): Command {
  return new Command('import')
    .description('send the readings of a CSV or NDJSON file down the path of live ones, with the limits of a backlog')
    .argument('<file>', 'CSV whose first line names the columns, or NDJSON; with .gz at its end, gzip')
    .addOption(new Option('--format <format>', 'where the name does not say it').choices(['csv', 'ndjson']))
    .option('--delimiter <character>', 'of CSV; found out when absent: , ; tab or |', oneCharacter)
    .option('--device <id>', 'the device of all rows')
    .option('--device-column <name>', 'the column that names the device')
    .option('--time-column <name>', 'the column with the time')
    .option(
      '--value-columns <names>',
      'a,b,c: each is a metric; in the long form, the first that is not empty is the value',
    )
    .option('--metric-column <name>', 'the long form: a row is one reading, and this column names its metric')
    .option('--unit-column <name>', 'the long form: the column with the unit')
    .option('--unit <metric=unit>', 'the unit of a metric; may be repeated', unitFlag, new Map())
    .option('--time-format <format>', 'auto, s, ms, us, ns, or a pattern such as "dd.MM.yyyy HH:mm:ss"', autoFormat)
    .option('--utc-offset <offset>', 'of times that name no zone, such as +02:00; UTC when absent')
    .option('--decimal-comma', '21,5 is a number')
    .option('--null <texts>', 'cells that hold no value', 'NaN,nan,NULL,null,NA,N/A')
    .option('--tenant <name>', 'whose devices', 'default')
    .option('--url <url>', 'HTTP address of a gateway; that of the running instance when absent')
    .option(
      '--token <token>',
      'of a fleet credential; better in BRIDGE_IMPORT_TOKEN. Absent: one is made for the import and revoked after it',
    )
    .option('--rejects <file>', 'where rows go that become no readings; FILE.rejects.csv when absent')
    .option(
      '--message-rows <count>',
      'rows of a device in one message: what is parked, is parked whole',
      whole(1, 1000),
      500,
    )
    .option('--parallel <count>', 'requests on the way at once', whole(1, 8), 2)
    .option('--restart', 'forget what an interrupted import of this file has done')
    .option('--dry-run', 'look at the first 1,000 rows, and send nothing')
    .option('--yes', 'take the columns as their names suggest')
    .option('--json', 'print an object with the counts')
    .addHelpText(
      'after',
      `
Examples:
  $ npx fleetbridge import readings.csv --dry-run
  $ npx fleetbridge import readings.csv --yes
  $ npx fleetbridge import log.csv.gz --device pump-1 --time-column Zeit --time-format "dd.MM.yyyy HH:mm" --utc-offset +01:00 \\
      --value-columns temp,rpm --unit temp=Cel --delimiter ';' --decimal-comma

Safe to interrupt and to run twice. Ends with 0, 1 when rows were rejected, 2 when nothing could be read, 130 after Ctrl-C (docs/import.md).`,
    )
    .action(runCommand)
}

async function runCommand(file: string, flags: Flags): Promise<void> {
  const format = flags.format ?? formatOf(file)
  const open = () => openRows(file, format, flags.delimiter)
  const first = await open()
  const { mapping, guessed } = mappingOf(first.columns, flags)
  const options: ConvertOptions = {
    mapping,
    readTime: timeReader(flags.timeFormat, flags.utcOffset === undefined ? 0 : offsetMinutesOf(flags.utcOffset)),
    units: flags.unit,
    nulls: new Set(flags.null.split(',')),
    decimalComma: flags.decimalComma === true,
    oldestUs: oldestUs(flags.url),
  }
  const said = mappingFlags(mapping)
  if (flags.dryRun || (guessed.length > 0 && !flags.yes)) {
    const seen = await dryRun(first, options)
    if (flags.dryRun) return flags.json ? await printJson({ mapping: said, ...seen }) : await showDryRun(said, seen)
    await askForGuesses(said, seen)
  } else first.close()
  const statePath = `${file}.import.json`
  if (flags.restart) await forgetState(statePath)
  const rejectsPath = flags.rejects ?? `${file}.rejects.csv`
  const stop = new AbortController()
  const interrupted = () => {
    if (stop.signal.aborted) process.exit(130)
    process.stderr.write('\nstopping: waiting for what is on its way (again to leave at once)\n')
    stop.abort()
  }
  process.on('SIGINT', interrupted).on('SIGTERM', interrupted)
  try {
    const result = await runImport({
      file,
      fingerprint: await fingerprintOf(file),
      mapping: `${said} ${sameRows(flags)}`,
      convert: options,
      open,
      place: findPlace(flags),
      statePath,
      rejectsPath,
      messageRows: flags.messageRows,
      parallel: flags.parallel,
      signal: stop.signal,
      say: (line) => process.stderr.write(`${line}\n`),
    })
    if (flags.json) await printJson(result)
    else await print(inWords(result, rejectsPath))
    if (result.interrupted) process.stderr.write('interrupted: the same command goes on where it stopped\n')
    if (result.interrupted) process.exitCode = 130
    else if (result.rejected > 0) process.exitCode = 1
  } catch (error) {
    process.stderr.write(`stopped. What was acknowledged stands in ${statePath}: the same command goes on there\n`)
    throw error
  } finally {
    process.off('SIGINT', interrupted).off('SIGTERM', interrupted)
  }
}

/** What else decides which readings a row becomes. */
function sameRows({ timeFormat, utcOffset, unit, decimalComma, tenant }: Flags): string {
  const units = [...unit].map(([metric, name]) => ` --unit '${metric}=${name}'`).join('')
  return `--time-format '${timeFormat}' --utc-offset ${utcOffset ?? 'Z'}${decimalComma ? ' --decimal-comma' : ''}${units} --tenant ${tenant}`
}

async function askForGuesses(said: string, seen: DryRun): Promise<void> {
  if (!process.stdin.isTTY || !process.stderr.isTTY)
    throw new BridgeError('BRIDGE_USAGE', `the columns seem to mean: ${said}. Say --yes to that, or give the flags.`)
  await showDryRun(said, seen)
  const lines = createInterface({ input: process.stdin, output: process.stderr })
  const answer = await lines.question('Import it so? [y/N] ')
  lines.close()
  if (!/^y(es)?$/i.test(answer.trim())) throw new BridgeError('BRIDGE_USAGE', 'nothing was imported')
}

async function showDryRun(said: string, seen: DryRun): Promise<void> {
  const { rows, readings, rejected, empty, devices, from, to, reasons, preview } = seen
  await print(`columns: ${said}\n`)
  await print(
    table(
      ['line', 'device', 'time', 'values'],
      preview.map(({ line, device, time, values }) => [line, device, time, valuesText(values)]),
    ),
  )
  await print(
    `\n${seen.whole ? 'all' : 'the first'} ${rows} rows: ${readings} readings of ${devices} devices${from === null ? '' : `, ${from} to ${to}`}; ` +
      `${rejected} rows rejected, ${empty} without a value${seen.whole ? '' : '; the file goes on'}`,
  )
  for (const { reason, rows, line } of reasons) await print(`  ${rows} × ${reason} (first in line ${line})`)
}

function valuesText(values: unknown): string {
  const members = Object.entries(values as Record<string, { value: unknown; unit?: string }>)
  const text = members.map(
    ([metric, { value, unit }]) => `${metric}=${String(value)}${unit === undefined ? '' : ` ${unit}`}`,
  )
  return text.join(', ').slice(0, 120)
}

function inWords(result: ImportResult, rejectsPath: string): string {
  const { rows, readings, new: fresh, duplicates, rejected, parked, empty, devices, seconds } = result
  const stored = fresh === null ? '' : `: ${fresh} new, ${duplicates} there before`
  const lost =
    rejected === 0
      ? ''
      : `, ${rejected} rows rejected (${rejectsPath})${parked === 0 ? '' : `, ${parked} of them held as dead letters`}`
  const rate = seconds > 0 ? `, ${Math.round(rows / seconds)} rows/s` : ''
  return `${rows} rows of ${devices} devices, ${readings} readings acknowledged${stored}${lost}${empty === 0 ? '' : `, ${empty} rows without a value`}, in ${seconds} s${rate}`
}

function unitFlag(text: string, before: Map<string, string>): Map<string, string> {
  const equals = text.lastIndexOf('=')
  if (equals < 1 || equals === text.length - 1)
    throw new InvalidArgumentError('It must be METRIC=UNIT, such as temp=Cel.')
  return new Map(before).set(text.slice(0, equals), text.slice(equals + 1))
}

function oneCharacter(text: string): string {
  if (text === '\\t' || text === 'tab') return '\t'
  if ([...text].length !== 1) throw new InvalidArgumentError('It must be one character; \\t is a tab.')
  return text
}
