import { Command } from 'commander'
import pg from 'pg'
import { momentOf } from '#gateway/admin/registry/times.ts'
import { loadConfig } from '#platform/config.ts'
import { BridgeError } from '#platform/errors.ts'
import { audit, auditText } from '#simulator/audit/audit.ts'
import { readJournals } from '#simulator/audit/read-journal.ts'
import { accountsText, checkAccounts, longestMs } from './accounts.ts'
import { findDatabase } from './instance.ts'
import { print, printJson } from './output.ts'
import { withRegistry } from './with-registry.ts'

interface Flags {
  readonly journal?: readonly string[]
  readonly since?: string
  readonly json?: true
}

export function createAuditCommand(): Command {
  return new Command('audit')
    .description(
      'compare the journals of a simulated fleet, or the counts of the workers, with what is stored; ends with 1 when something is missing, doubled or foreign',
    )
    .option('--journal <files...>', 'what "simulate --journal" wrote; all files of one run')
    .option(
      '--since <time>',
      'check the accounts of all messages that arrived since: 1h ago, or a time such as 2030-01-31T12:00:00Z, at most 13d ago',
    )
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
sent, acked   messages that were sent, and acknowledged
rows          rows of "reading" of these devices since the start
duplicates    acknowledged copies that made no row of their own
dead          messages that cannot be decoded and are dead letters
missing       acknowledged, and not all of it is there
phantom       rows that were never sent like this
doubled       messages that are there more than once
reordered     messages that came before one that was sent earlier

Example:
  $ npx fleetbridge simulate --scenario home --duration 30s --journal home.journal
  $ npx fleetbridge audit --journal home.journal
  $ npx fleetbridge audit --since 1h`,
    )
    .action(run)
}

async function run({ journal: files, since, json }: Flags): Promise<void> {
  if ((files === undefined) === (since === undefined))
    throw new BridgeError('BRIDGE_USAGE', 'give either --journal FILES or --since TIME, such as --since 1h')
  if (since !== undefined) await auditAccounts(since, json)
  if (files !== undefined) await auditJournals(files, json)
}

async function auditAccounts(since: string, json: true | undefined): Promise<void> {
  const sinceMs = momentOf(since, '--since').getTime()
  if (sinceMs < Date.now() - longestMs)
    throw new BridgeError('BRIDGE_USAGE', 'the counts of each minute are kept for two weeks: at most --since 13d')
  const result = await withRegistry((client) => checkAccounts(client, sinceMs))
  if (json) await printJson(result)
  else await print(accountsText(result))
  if (!result.ok) process.exitCode = 1
}

async function auditJournals(files: readonly string[], json: true | undefined): Promise<void> {
  const journal = await readJournals(files)
  const pool = new pg.Pool({
    connectionString: findDatabase(loadConfig(process.env)),
    max: 2,
    application_name: 'fleetbridge audit',
    connectionTimeoutMillis: 10_000,
  })
  pool.on('error', () => {})
  try {
    const result = await audit(pool, journal)
    if (json) await printJson(result)
    else await print(auditText(result))
    if (!result.ok) process.exitCode = 1
  } finally {
    await pool.end()
  }
}
