import pg from 'pg'
import { BridgeError } from '#platform/errors.ts'

/** @throws BridgeError BRIDGE_NOT_RUNNING when no database is known */
export function neededDatabase(databaseUrl: string | undefined): string {
  if (databaseUrl !== undefined) return databaseUrl
  throw new BridgeError(
    'BRIDGE_NOT_RUNNING',
    'nothing runs here and DATABASE_URL is not set: start one with "npm start", give --database-url, or use --csv with --no-verify',
  )
}

/** Two connections for whoever compares rows; they outlive a database that is away for a while. */
export function openRowsPool(databaseUrl: string): pg.Pool {
  const pool = new pg.Pool({
    connectionString: databaseUrl,
    max: 2,
    application_name: 'fleetbridge simulate',
    connectionTimeoutMillis: 10_000,
  })
  // A connection that breaks while nobody asks: the next question opens another.
  pool.on('error', () => {})
  return pool
}
