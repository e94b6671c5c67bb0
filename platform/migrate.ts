import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { advisoryLocks } from './advisory-locks.ts'
import { BridgeError } from './errors.ts'
import type { Log } from './log.ts'

const migrationsFolder = fileURLToPath(new URL('../schema/migrations', import.meta.url))

/**
 * Brings the database to the schema of this version. Two starters at once: one waits for the other. A database of a newer version that lets
 * this one run is left as it is.
 * @throws BridgeError BRIDGE_SCHEMA_NEWER when it does not: nothing is changed then
 */
export async function migrate(databaseUrl: string, log: Log): Promise<void> {
  await withClient(databaseUrl, async (client) => {
    // A session lock: each start waits here before it looks, so the second finds nothing left to do. It goes with the connection.
    await client.query('select pg_advisory_lock($1, $2)', [advisoryLocks.space, advisoryLocks.migrate])
    const { pending: before, newer } = await compare(client)
    if (newer.length > 0) return sayNewer(log, newer)
    // Before the migrations, so that none is ever there without its word on older programs.
    await recordCompatibility(client)
    if (before.length === 0) return
    // Loaded here alone: loading it takes 130 MB, which a gateway would keep for its life.
    const { drizzle } = await import('drizzle-orm/node-postgres')
    const { migrate: runMigrations } = await import('drizzle-orm/node-postgres/migrator')
    // A migration says so what it had to leave out, such as a role that this user may not create.
    client.on('notice', ({ severity, message, hint }) => {
      if (severity === 'WARNING') log.warn({ hint }, message ?? 'Postgres warns of a migration')
    })
    await runMigrations(drizzle(client), { migrationsFolder })
    log.info({ migrations: before }, 'database schema brought up to date')
  })
}

/**
 * For processes that do not migrate.
 * @throws BridgeError BRIDGE_SCHEMA_MISSING when migrations are pending; BRIDGE_SCHEMA_NEWER as above
 */
export async function checkSchema(databaseUrl: string, log?: Log): Promise<void> {
  await withClient(databaseUrl, async (client) => {
    const { pending, newer } = await compare(client)
    if (newer.length > 0 && log !== undefined) sayNewer(log, newer)
    if (pending.length === 0) return
    throw new BridgeError(
      'BRIDGE_SCHEMA_MISSING',
      `the database lacks ${pending.length} migration(s) of this version (${pending.join(', ')}): run "fleetbridge init" with the same DATABASE_URL`,
      { details: { pending: pending.length } },
    )
  })
}

function sayNewer(log: Log, newer: readonly string[]): void {
  log.warn({ migrations: newer }, 'the database was migrated by a newer version, which lets this one run on it')
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

interface Applied {
  /** Its tag, as the program that applied it wrote down; undefined where none did. */
  readonly tag: string | undefined
  /** Tag of the migration that a program must know at least to run on this one. */
  readonly since: string | undefined
}

/**
 * Migrations expand first and contract in a later version (docs/operations.md), and each names the oldest program that it leaves working by the
 * newest migration which that program knows.
 * @returns tags of what is to be applied, and of what newer versions have applied
 */
async function compare(client: pg.Client): Promise<{ pending: string[]; newer: string[] }> {
  const journal = readJournal()
  const applied = await appliedMigrations(client)
  const known = new Set(journal.map(({ when }) => when))
  const tags = new Set(journal.map(({ tag }) => tag))
  const unknown = [...applied].filter(([when]) => !known.has(when))
  const forbidding = unknown.find(([, { since }]) => since === undefined || !tags.has(since))
  if (forbidding !== undefined) {
    const [when, { tag = `of ${new Date(when).toISOString()}`, since }] = forbidding
    throw newerSchema(
      unknown.length,
      since === undefined ? `${tag} does not say that older ones run on it` : `${tag} needs one that knows ${since}`,
    )
  }
  if (unknown.length === 0) {
    // Drizzle itself compares with the newest one only.
    const newest = Math.max(0, ...applied.keys())
    return { pending: journal.filter(({ when }) => when > newest).map(({ tag }) => tag), newer: [] }
  }
  // Drizzle would never apply them: it takes all below the newest for applied.
  const skipped = journal.find(({ when }) => !applied.has(when))
  if (skipped !== undefined) throw newerSchema(unknown.length, `they came without ${skipped.tag}`)
  return { pending: [], newer: unknown.map(([when, { tag }]) => tag ?? String(when)) }
}

function newerSchema(unknown: number, why: string): BridgeError {
  return new BridgeError(
    'BRIDGE_SCHEMA_NEWER',
    `the database has ${unknown} migration(s) that this version of fleetbridge does not know, and ${why}: start the newer version, or restore a backup from before the upgrade`,
    { details: { unknown } },
  )
}

function readJournal(): readonly JournalEntry[] {
  const file = readFileSync(`${migrationsFolder}/meta/_journal.json`, 'utf8')
  return (JSON.parse(file) as { entries: JournalEntry[] }).entries
}

/** By their time, which is what drizzle knows them by. */
async function appliedMigrations(client: pg.Client): Promise<ReadonlyMap<number, Applied>> {
  const table = await client.query(
    `select to_regclass('drizzle.__drizzle_migrations') is not null as migrations,
            to_regclass('drizzle.fleetbridge_compatibility') is not null as compatibility`,
  )
  if (!table.rows[0].migrations) return new Map()
  const { rows } = await client.query(
    table.rows[0].compatibility
      ? `select m.created_at, c.tag, c.since from drizzle.__drizzle_migrations m
         left join drizzle.fleetbridge_compatibility c on c.migration = m.created_at`
      : 'select created_at from drizzle.__drizzle_migrations',
  )
  return new Map(
    rows.map((row) => [Number(row.created_at), { tag: row.tag ?? undefined, since: row.since ?? undefined }]),
  )
}

/** In drizzle's own schema, beside its list of what was applied: a table of ours would need a migration before the first one. */
async function recordCompatibility(client: pg.Client): Promise<void> {
  const entries = readJournal().map(({ tag, when }) => ({ migration: when, tag, since: oldestProgram(tag) }))
  await client.query(`
    create schema if not exists drizzle;
    create table if not exists drizzle.fleetbridge_compatibility (
      migration bigint primary key, tag text not null, since text not null);
    comment on table drizzle.fleetbridge_compatibility is
      'For each migration the oldest program that may run on it, by the newest migration which that program knows'`)
  await client.query(
    `insert into drizzle.fleetbridge_compatibility
     select * from jsonb_to_recordset($1) as r (migration bigint, tag text, since text)
     on conflict (migration) do update set tag = excluded.tag, since = excluded.since`,
    [JSON.stringify(entries)],
  )
}

/**
 * What a migration says in its line `-- Programs since 0000_first run on this.`
 * @returns the tag named there; its own where it has no such line, so that older programs are refused
 */
export function oldestProgram(tag: string): string {
  const sql = readFileSync(`${migrationsFolder}/${tag}.sql`, 'utf8')
  return /^-- Programs since (\S+) run on this\.$/m.exec(sql)?.[1] ?? tag
}
