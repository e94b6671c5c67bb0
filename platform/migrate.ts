import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { advisoryLocks } from './advisory-locks.ts'
import { BridgeError } from './errors.ts'
import type { Log } from './log.ts'

const migrationsFolder = fileURLToPath(new URL('../schema/migrations', import.meta.url))

/**
 * Brings the database to the schema of this version. Two starters at once: one waits for the other.
 * @throws BridgeError BRIDGE_SCHEMA_NEWER when the database was migrated by a newer version: nothing is changed then
 */
export async function migrate(databaseUrl: string, log: Log): Promise<void> {
  await withClient(databaseUrl, async (client) => {
    // A session lock: each start waits here before it looks, so the second finds nothing left to do. It goes with the connection.
    await client.query('select pg_advisory_lock($1, $2)', [advisoryLocks.space, advisoryLocks.migrate])
    const before = await pendingMigrations(client)
    if (before.length === 0) return
    // Loaded here alone: loading it takes 130 MB, which a gateway would keep for its life.
    const { drizzle } = await import('drizzle-orm/node-postgres')
    const { migrate: runMigrations } = await import('drizzle-orm/node-postgres/migrator')
    await runMigrations(drizzle(client), { migrationsFolder })
    log.info({ migrations: before }, 'database schema brought up to date')
  })
}

/**
 * For processes that do not migrate.
 * @throws BridgeError BRIDGE_SCHEMA_MISSING when migrations are pending; BRIDGE_SCHEMA_NEWER as above
 */
export async function checkSchema(databaseUrl: string): Promise<void> {
  await withClient(databaseUrl, async (client) => {
    const pending = await pendingMigrations(client)
    if (pending.length === 0) return
    throw new BridgeError(
      'BRIDGE_SCHEMA_MISSING',
      `the database lacks ${pending.length} migration(s) of this version (${pending.join(', ')}): run "fleetbridge init" with the same DATABASE_URL`,
      { details: { pending: pending.length } },
    )
  })
}

async function withClient(databaseUrl: string, use: (client: pg.Client) => Promise<void>): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl, application_name: 'fleetbridge migrate' })
  // Without a listener a connection that breaks between two queries ends the process; the next query reports it anyway.
  client.on('error', () => {})
  await client.connect()
  try {
    await use(client)
  } finally {
    await client.end()
  }
}

interface JournalEntry {
  readonly tag: string
  readonly when: number
}

async function pendingMigrations(client: pg.Client): Promise<string[]> {
  const journal = JSON.parse(readFileSync(`${migrationsFolder}/meta/_journal.json`, 'utf8')) as {
    entries: JournalEntry[]
  }
  const applied = await appliedMigrations(client)
  const known = new Set(journal.entries.map(({ when }) => when))
  const unknown = applied.filter((when) => !known.has(when))
  if (unknown.length > 0)
    throw new BridgeError(
      'BRIDGE_SCHEMA_NEWER',
      `the database has ${unknown.length} migration(s) that this version of fleetbridge does not know: start the newer version, or restore a backup from before the upgrade`,
      { details: { unknown: unknown.length } },
    )
  // Drizzle itself compares with the newest one only.
  const newest = Math.max(0, ...applied)
  return journal.entries.filter(({ when }) => when > newest).map(({ tag }) => tag)
}

async function appliedMigrations(client: pg.Client): Promise<number[]> {
  const table = await client.query(`select to_regclass('drizzle.__drizzle_migrations') is not null as exists`)
  if (!table.rows[0].exists) return []
  const { rows } = await client.query('select created_at from drizzle.__drizzle_migrations')
  return rows.map((row) => Number(row.created_at))
}
