import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { advisoryLocks } from './advisory-locks.ts'
import { BridgeError } from './errors.ts'
import { type Handle, handleOf } from './handle.ts'
import type { Log } from './log.ts'

export type InstanceLock = 'server' | 'direct'

/** A dead owner's session ends at once, or when Postgres finishes what it was doing for it. */
const waitMs = 3000

/**
 * Holds an advisory lock of the database as long as the handle is open; taken again when the connection was lost.
 * @throws BridgeError BRIDGE_SECOND_INSTANCE when another process holds it
 */
export async function takeInstanceLock(databaseUrl: string, lock: InstanceLock, log: Log): Promise<Handle> {
  let closed = false
  let client: pg.Client | undefined
  const deadline = Date.now() + waitMs
  for (;;) {
    client = await tryLock(databaseUrl, lock, lost)
    if (client !== undefined) break
    if (Date.now() > deadline) throw secondInstance(databaseUrl, lock)
    await sleep(200)
  }

  /** The database went away and took the lock with it; by then nothing can be written, so there is time to ask again. */
  function lost(): void {
    if (!closed) void retake()
  }

  async function retake(): Promise<void> {
    let warned = false
    while (!closed) {
      await sleep(500)
      try {
        const again = await tryLock(databaseUrl, lock, lost)
        if (again !== undefined) {
          if (closed) await again.end()
          else client = again
          return
        }
        if (!warned) log.error({ code: 'BRIDGE_SECOND_INSTANCE' }, 'another process took over this database')
        warned = true
      } catch {
        // the database is still away
      }
    }
  }

  return handleOf(async () => {
    closed = true
    await client?.end().catch(() => undefined)
  })
}

async function tryLock(connectionString: string, lock: InstanceLock, lost: () => void): Promise<pg.Client | undefined> {
  const client = new pg.Client({
    connectionString,
    application_name: `fleetbridge lock ${lock}`,
    connectionTimeoutMillis: 10_000,
    keepAlive: true,
  })
  let held = false
  let ended = false
  const end = () => {
    if (ended) return
    ended = true
    if (held) lost()
  }
  client.on('error', end)
  client.on('end', end)
  await client.connect()
  const { rows } = await client.query<{ taken: boolean }>('SELECT pg_try_advisory_lock($1, $2) AS taken', [
    advisoryLocks.space,
    advisoryLocks[lock],
  ])
  held = rows[0]?.taken === true
  if (held) return client
  await client.end()
  return undefined
}

function secondInstance(databaseUrl: string, lock: InstanceLock): BridgeError {
  const { host, pathname } = new URL(databaseUrl)
  const message = {
    server:
      'another fleetbridge runs on this data folder. Stop it first, or give this one a folder of its own in BRIDGE_DATA_DIR.',
    direct:
      `another fleetbridge writes to the database ${pathname.slice(1)} at ${host}, and without Kafka there is one a database. ` +
      'Stop it first, name another database, or set KAFKA_BROKERS to run several.',
  }[lock]
  return new BridgeError('BRIDGE_SECOND_INSTANCE', message)
}
