import { Command } from 'commander'
import pg from 'pg'
import { loadConfig } from '#platform/config.ts'
import { audit, auditText } from '#simulator/audit/audit.ts'
import { readJournals } from '#simulator/audit/read-journal.ts'
import { findDatabase } from './instance.ts'
import { print, printJson } from './output.ts'

interface Flags {
  readonly journal: readonly string[]
  readonly json?: true
}

export function createAuditCommand(): Command {
  return new Command('audit')
    .description(
      'compare the journals of a simulated fleet with what is stored; ends with 1 when something is missing, doubled or foreign',
    )
    .requiredOption('--journal <files...>', 'what "simulate --journal" wrote; all files of one run')
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
  $ npx fleetbridge audit --journal home.journal`,
    )
    .action(run)
}

async function run({ journal: files, json }: Flags): Promise<void> {
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
