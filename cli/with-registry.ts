import type pg from 'pg'
import { loadConfig } from '#platform/config.ts'
import { withDatabase } from './database.ts'
import { findDatabase } from './instance.ts'

/** One connection to the tables of the running instance, or of DATABASE_URL. */
export async function withRegistry<T>(use: (client: pg.Client) => Promise<T>): Promise<T> {
  return await withDatabase(findDatabase(loadConfig(process.env)), use)
}
