import pg from 'pg'

/** SQLSTATE of an error that Postgres itself reported; undefined for lost connections and everything else. */
export function sqlState(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.code : undefined
}

/** Data exception (22), integrity violation (23), program limit (54): the rows are at fault, and will be tomorrow. */
export function isRefusedRow(error: unknown): error is pg.DatabaseError {
  const state = sqlState(error)
  return state !== undefined && (state.startsWith('22') || state.startsWith('23') || state.startsWith('54'))
}

/** A partition went away since we looked. It is reported as a check violation, but nothing is wrong with the row. */
export function isMissingPartition(error: unknown): boolean {
  return (
    error instanceof pg.DatabaseError &&
    error.code === '23514' &&
    error.constraint === undefined &&
    /^(reading|recent_message)/.test(error.table ?? '')
  )
}

/** A device or metric that we remember was deleted since. */
export function isDanglingName(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === '23503'
}

/** Deadlock or serialization failure: the same again may pass. */
export function isTransient(error: unknown): boolean {
  const state = sqlState(error)
  return state === '40P01' || state === '40001' || state === '55P03'
}

/** Another statement of the same transaction has failed, and its error says why. */
export function isAbortedTransaction(error: unknown): boolean {
  return sqlState(error) === '25P02'
}
