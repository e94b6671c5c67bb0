import type pg from 'pg'
import type { Config } from '#platform/config-schema.ts'
import { type Check, type DoctorContext, type Finding, fail, ok, ServerAway, warn } from './check.ts'

const leastVersion = 150_000
/** Beside its pool: registry, marks of use, four for the admin API; locks and a command line. */
const connectionsBesidePool = 8
/** Grafana and people at once, each asking over all partitions: every one locks each leaf and its index. */
const unprunedQueries = 10
const utc = new Set(['UTC', 'Etc/UTC', 'GMT', 'Etc/GMT', 'Zulu', 'Universal', 'UCT', 'Etc/UCT'])

interface Server {
  readonly version: number
  readonly version_text: string
  readonly max_connections: number
  readonly reserved: number
  readonly open: number
  readonly ours: number
  readonly max_locks: number
  readonly relations: number
  readonly fsync: string
  readonly full_page_writes: string
  readonly synchronous_commit: string
  readonly autovacuum: string
  readonly timezone: string
  readonly encoding: string
  readonly in_recovery: boolean
}

export const postgresServer: Check = {
  name: 'postgres',
  async run(context) {
    if (context.database === undefined) return [ok('embedded, and it does not run: start fleetbridge to look into it')]
    try {
      const server = await read(await context.postgres())
      const findings = [...durability(server), ...words(server), ...room(server, context.config)]
      return [ok(summary(server, context)), ...findings]
    } catch (error) {
      if (error instanceof ServerAway) return [fail(error.message, error.advice)]
      throw error
    }
  },
}

async function read(pool: pg.Pool): Promise<Server> {
  const { rows } = await pool.query<Server>(
    `select current_setting('server_version_num')::int as version, current_setting('server_version') as version_text,
      current_setting('max_connections')::int as max_connections,
      current_setting('superuser_reserved_connections')::int as reserved,
      (select count(*)::int from pg_stat_activity where backend_type = 'client backend') as open,
      (select count(*)::int from pg_stat_activity where application_name like 'fleetbridge%') as ours,
      current_setting('max_locks_per_transaction')::int as max_locks,
      (select count(*)::int from pg_partition_tree(to_regclass('reading'))) as relations,
      current_setting('fsync') as fsync, current_setting('full_page_writes') as full_page_writes,
      current_setting('synchronous_commit') as synchronous_commit, current_setting('autovacuum') as autovacuum,
      current_setting('timezone') as timezone,
      current_setting('server_encoding') as encoding, pg_is_in_recovery() as in_recovery`,
  )
  return rows[0] as Server
}

function summary(server: Server, { database, instance }: DoctorContext): string {
  const where = database?.embeddedPath === undefined ? 'DATABASE_URL' : 'embedded'
  const orphan =
    where === 'embedded' && instance === undefined ? ' (its fleetbridge was killed; the next start takes it over)' : ''
  return `${where}: Postgres ${server.version_text}${orphan}, ${server.open} of ${server.max_connections} connections open, ${server.ours} of them ours`
}

function durability(server: Server): Finding[] {
  const findings: Finding[] = []
  if (server.version < leastVersion)
    findings.push(
      fail(
        `Postgres ${server.version_text} is too old: 15 is the oldest that works`,
        'Upgrade the server: https://www.postgresql.org/docs/current/upgrading.html',
      ),
    )
  if (server.in_recovery)
    findings.push(fail('this is a standby, which takes no writes', 'Let DATABASE_URL name the primary.'))
  if (server.fsync === 'off')
    findings.push(
      fail(
        'fsync is off: a power cut can destroy the whole database',
        'Turn it on in postgresql.conf, or:',
        set('fsync', 'on'),
      ),
    )
  if (server.full_page_writes === 'off')
    findings.push(
      fail(
        'full_page_writes is off: a power cut can leave pages half written',
        'Only a file system that never tears a page needs none:',
        set('full_page_writes', 'on'),
      ),
    )
  if (server.synchronous_commit === 'off' || server.synchronous_commit === 'local')
    findings.push(
      ok(`synchronous_commit is ${server.synchronous_commit}; the sessions that write readings set it to on`),
    )
  if (server.autovacuum === 'off')
    findings.push(
      fail('autovacuum is off: tables grow, and in the end Postgres stops', 'Turn it on:', set('autovacuum', 'on')),
    )
  return findings
}

function words({ encoding, timezone }: Server): Finding[] {
  const findings: Finding[] = []
  if (encoding !== 'UTF8')
    findings.push(
      fail(
        `the database is encoded as ${encoding}: messages with other characters are parked`,
        'Make one in UTF8, run init on it, and move the data with pg_dump:',
        'psql "$DATABASE_URL" -c "CREATE DATABASE fleetbridge ENCODING \'UTF8\' TEMPLATE template0 LOCALE \'C.UTF-8\'"',
      ),
    )
  if (!utc.has(timezone))
    findings.push(
      warn(
        `sessions begin in the time zone ${timezone}: days in queries are its days, and partitions are those of UTC`,
        'Queries by day then open two ranges. For new sessions:',
        `psql "$DATABASE_URL" -c 'DO $$ BEGIN EXECUTE format($q$ALTER DATABASE %I SET timezone = %L$q$, current_database(), $q$UTC$q$); END $$'`,
      ),
    )
  return findings
}

function room(server: Server, { database, kafka }: Config): Finding[] {
  const findings: Finding[] = []
  const perProcess = database.poolSize + connectionsBesidePool
  const free = server.max_connections - server.reserved - server.open
  // What runs already has its own; the shipped topology is two gateways and two workers.
  const processes = kafka.brokers === undefined ? 1 : 4
  const missing = processes * perProcess - server.ours - free
  if (free <= 2)
    findings.push(
      fail(
        `only ${free} connections are free`,
        'End what holds them, or raise it and restart Postgres:',
        set('max_connections', String(server.max_connections * 2)),
      ),
    )
  else if (missing > 0)
    findings.push(
      warn(
        `${processes} process(es) of ours want up to ${perProcess} connections each (BRIDGE_DATABASE_POOL_SIZE ${database.poolSize} and ${connectionsBesidePool}), and ${free} are free`,
        'Raise it and restart Postgres:',
        set('max_connections', String(server.max_connections + Math.ceil(missing / 10) * 10)),
      ),
    )
  const locks = server.max_locks * server.max_connections
  const wanted = unprunedQueries * server.relations * 2
  if (locks < wanted)
    findings.push(
      warn(
        `${server.relations} partitions and ${unprunedQueries} queries without a time need ${wanted} locks, and there is room for ${locks}: then "out of shared memory"`,
        'Raise it and restart Postgres:',
        set('max_locks_per_transaction', String(2 ** Math.ceil(Math.log2(wanted / server.max_connections)))),
      ),
    )
  return findings
}

function set(name: string, value: string): string {
  return `psql "$DATABASE_URL" -c "ALTER SYSTEM SET ${name} = ${value}" -c "SELECT pg_reload_conf()"`
}
