import pg from 'pg'
import { BridgeError } from '#platform/errors.ts'
import { withoutPassword } from './instance.ts'

/**
 * One connection for one command.
 * @throws BridgeError BRIDGE_NOT_RUNNING when the database does not answer, BRIDGE_SCHEMA_MISSING when our tables are not there
 */
export async function withDatabase<T>(databaseUrl: string, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({
    connectionString: databaseUrl,
    connectionTimeoutMillis: 10_000,
    application_name: 'fleetbridge cli',
  })
  client.on('error', () => undefined) // the query that is under way says it
  try {
    await client.connect()
  } catch (error) {
    throw new BridgeError(
      'BRIDGE_NOT_RUNNING',
      `the database ${withoutPassword(databaseUrl)} does not answer: ${reason(error)}. Start it, or mend DATABASE_URL.`,
      { cause: error },
    )
  }
  try {
    return await use(client)
  } finally {
    await client.end().catch(() => undefined)
  }
}

function reason(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(reason).join('; ')
  return error instanceof Error ? error.message : String(error)
}
