import pg from 'pg'
import { advisoryLocks } from '#platform/advisory-locks.ts'
import { BridgeError } from '#platform/errors.ts'
import { type Handle, handleOf } from '#platform/handle.ts'
import { type Log, silentLog } from '#platform/log.ts'

/** A killed process holds its lock until Postgres notices the closed socket. */
const graceMs = 2000
const retryMs = 250
const reconnectMs = 1000

export interface DirectLock extends Handle {
  /** False while the connection that holds the lock is gone; the offsets fence off a second writer meanwhile. */
  held(): boolean
}

/**
 * Sees to one gateway a database where nothing but Postgres stands behind it: a session lock on a connection of its own,
 * taken again whenever that was lost.
 * @throws BridgeError BRIDGE_SECOND_INSTANCE when another process holds it
 */
export async function holdDirectLock(databaseUrl: string, log: Log = silentLog): Promise<DirectLock> {
  let closing = false
  let client: pg.Client | undefined
  let timer: NodeJS.Timeout | undefined

  const lost = () => {
    client = undefined
    if (closing) return
    log.warn('the connection that keeps other gateways off this database was lost')
    retake()
  }
  const retake = () => {
    timer = setTimeout(async () => {
      try {
        const next = await take(databaseUrl, lost)
        if (next !== undefined && !closing) {
          client = next
          log.info('this database is kept for this gateway again')
          return
        }
        await next?.end()
        if (!closing) log.error('another gateway holds this database: stop one of the two')
      } catch (error) {
        log.debug({ err: error }, 'the lock could not be taken again yet')
      }
      if (!closing) retake()
    }, reconnectMs)
    timer.unref()
  }

  const deadline = performance.now() + graceMs
  for (;;) {
    client = await take(databaseUrl, lost)
    if (client !== undefined) break
    if (performance.now() > deadline)
      throw new BridgeError(
        'BRIDGE_SECOND_INSTANCE',
        'another fleetbridge writes to this database: without Kafka only one may. Stop it, or give both KAFKA_BROKERS',
      )
    await new Promise((resolve) => setTimeout(resolve, retryMs))
  }
  const handle = handleOf(async () => {
    closing = true
    clearTimeout(timer)
    await client?.end()
  })
  return { ...handle, held: () => client !== undefined }
}

/** A connection that holds the lock, or undefined when another one does. */
async function take(databaseUrl: string, lost: () => void): Promise<pg.Client | undefined> {
  const client = new pg.Client({
    connectionString: databaseUrl,
    application_name: 'fleetbridge lock',
    connectionTimeoutMillis: 5000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
  })
  client.on('error', () => {})
  await client.connect()
  try {
    const { rows } = await client.query<{ held: boolean }>('select pg_try_advisory_lock($1, $2) as held', [
      advisoryLocks.space,
      advisoryLocks.direct,
    ])
    if (rows[0]?.held === true) {
      client.once('end', lost)
      return client
    }
  } catch (error) {
    await client.end()
    throw error
  }
  await client.end()
  return undefined
}
