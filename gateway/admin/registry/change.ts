import pg from 'pg'
import { conflict } from './refusal.ts'

export type Client = pg.ClientBase

/** Who makes a change. */
export interface Change {
  /** `cli:USER` or `admin:NAME`, as the audit shows it. */
  readonly actor: string
  /** Whether a tenant that is named and not there is made on the way. */
  readonly makesTenants: boolean
}

export async function inTransaction<T>(client: Client, work: () => Promise<T>): Promise<T> {
  await client.query('BEGIN')
  try {
    const result = await work()
    await client.query('COMMIT')
    return result
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined)
    if (!(error instanceof pg.DatabaseError)) throw error
    // Two added the same at once.
    if (error.code === '23505') throw conflict('it was added by somebody else just now; nothing was added', error)
    if (error.code === '40P01') throw conflict('somebody else changes the same just now; try again', error)
    throw error
  }
}

/** A time as programs read it, in UTC. */
export const isoTime = (column: string) => `to_char(${column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')`
