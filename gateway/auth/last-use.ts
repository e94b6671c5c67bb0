import pg from 'pg'
import { type Handle, handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'
import type { Credential } from './credential.ts'

const writeEveryMs = 30_000
/** A credential that is used all the time is written once in this time. */
const noteEverySeconds = 60
const rowsOfOneUpdate = 10_000

/** Locked in the order of their ids, or two gateways that write the same credentials could lock each other out. */
const updateSql = `
  WITH used AS (
    SELECT c.id, to_timestamp(u.ms / 1000) AS at
    FROM unnest($1::uuid[], $2::float8[]) AS u (id, ms) JOIN credential c ON c.id = u.id
    WHERE coalesce(c.last_used_at < to_timestamp(u.ms / 1000), true)
    ORDER BY c.id FOR NO KEY UPDATE OF c
  )
  UPDATE credential SET last_used_at = used.at FROM used WHERE credential.id = used.id`

export interface LastUse extends Handle {
  /** Notes that a credential was right just now. Costs a comparison when it was noted within the minute. */
  note(credential: Credential, nowMs: number): void
  /** Writes what was noted. Rejects when Postgres is away: then it stays noted. */
  write(): Promise<void>
}

/** Keeps `credential.last_used_at`, in batches. What waits is bounded by the credentials that there are; Postgres being away is no trouble. */
export function startLastUse(databaseUrl: string, log: Log): LastUse {
  let noted = new Map<string, number>()
  let writing: Promise<void> | undefined
  let isAway = false

  async function writeNoted(): Promise<void> {
    if (noted.size === 0) return
    const client = new pg.Client({
      connectionString: databaseUrl,
      application_name: 'fleetbridge last use',
      connectionTimeoutMillis: 2000,
      query_timeout: 5000,
    })
    client.on('error', () => {}) // the query in hand rejects
    try {
      await client.connect()
      while (noted.size > 0) await writeSome(client)
    } finally {
      await client.end().catch(() => {})
    }
  }

  async function writeSome(client: pg.Client): Promise<void> {
    const taken = noted
    noted = new Map()
    const rows = [...taken]
    for (let from = 0; from < rows.length; from += rowsOfOneUpdate) {
      const some = rows.slice(from, from + rowsOfOneUpdate)
      try {
        await client.query(updateSql, [some.map(([id]) => id), some.map(([, ms]) => ms)])
      } catch (error) {
        for (const [id, ms] of rows.slice(from)) if (!noted.has(id)) noted.set(id, ms)
        throw error
      }
    }
  }

  function write(): Promise<void> {
    writing ??= writeNoted().finally(() => {
      writing = undefined
    })
    return writing
  }

  const timer = setInterval(() => {
    write().then(
      () => {
        isAway = false
      },
      (error: unknown) => {
        if (!isAway) log.warn({ err: error }, 'when credentials were used last cannot be written now; it is kept')
        isAway = true
      },
    )
  }, writeEveryMs).unref()

  return {
    ...handleOf(async () => {
      clearInterval(timer)
      await write().catch(() => {}) // a mark of use is not worth a failed stop
    }),
    note(credential, nowMs) {
      const second = Math.floor(performance.now() / 1000)
      if (second - credential.notedSecond < noteEverySeconds) return
      credential.notedSecond = second
      noted.set(credential.credentialId, nowMs)
    },
    write,
  }
}
