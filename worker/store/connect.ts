import pg from 'pg'
import type { Log } from '#platform/log.ts'

/** Past this the server ends a statement; ours are bounded in rows, so it is a sign that something else is wrong. */
const statementTimeoutMs = 30_000
/** A worker that was frozen within a transaction holds its partitions' rows: this frees them for the next one. */
const idleInTransactionMs = 15_000
/** For a connection that died without a word; later than the server's own limit. */
const queryTimeoutMs = 45_000

export interface PoolOptions {
  readonly databaseUrl: string
  readonly poolSize: number
  /** As the database shows it; `fleetbridge store` when absent. */
  readonly name?: string
  readonly log: Log
  /** A connection was made to another server, or to one that was started again, than the connection before: what we remember of it may be wrong. */
  readonly onOtherServer: () => void
}

/** A pool whose connections pipeline: queries that do not wait for each other's result share a round trip. */
export function createPool({
  databaseUrl,
  poolSize,
  name = 'fleetbridge store',
  log,
  onOtherServer,
}: PoolOptions): pg.Pool {
  let known: string | undefined
  const pool = new pg.Pool({
    connectionString: databaseUrl,
    max: poolSize,
    application_name: name,
    pipeline: true,
    connectionTimeoutMillis: 5000,
    statement_timeout: statementTimeoutMs,
    query_timeout: queryTimeoutMs,
    idle_in_transaction_session_timeout: idleInTransactionMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    onConnect: async (client) => {
      const server = await prepareSession(client)
      if (known !== undefined && server !== known) onOtherServer()
      known = server
    },
  })
  pool.on('error', (error) => log.warn({ err: error }, 'an idle database connection was lost'))
  return pool
}

/** @returns what tells this run of this server from others */
async function prepareSession(client: pg.ClientBase): Promise<string> {
  // A connection that breaks while we hold it tells its queries; without a listener it would end the process as well.
  client.on('error', () => {})
  // An acknowledgement means durable, whatever was set for the role or the database; stronger settings than "on" stay.
  await client.query(
    `select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') in ('off', 'local')`,
  )
  const { rows } = await client.query<{ server: string }>(
    `select concat_ws(' ', inet_server_addr(), inet_server_port(), pg_postmaster_start_time()) as server`,
  )
  return rows[0]?.server ?? ''
}
