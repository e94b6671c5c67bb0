import pg from 'pg'
import { type Handle, handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'

export interface CredentialRow {
  readonly credentialId: string
  /** SHA-256 of the token, base64. */
  readonly secretHash: string
  readonly tenant: string
  readonly device: string
  readonly fleet: boolean
  readonly pattern: string | null
  readonly expiresAtMs: number | null
  /** False when revoked, or when its device is disabled. */
  readonly usable: boolean
}

export interface DeviceRow {
  readonly tenant: string
  readonly device: string
  readonly enabled: boolean
}

export interface RegistryFeed extends Handle {
  loaded(): boolean
  refreshed(): Promise<void>
}

const pollMs = 2000
const maxBackOffMs = 5000
/** Rows are read again for this long: `updated_at` is set before the commit that shows it. */
const overlapMs = 30_000
const pageSize = 20_000

const credentialSql = `
  SELECT c.id AS "credentialId", encode(c.secret_hash, 'base64') AS "secretHash", t.name AS tenant, d.external_id AS device, c.fleet, c.pattern,
    (extract(epoch FROM c.expires_at) * 1000)::float8 AS "expiresAtMs", c.revoked_at IS NULL AND d.status = 'enabled' AS usable,
    (extract(epoch FROM greatest(c.updated_at, d.updated_at)) * 1000)::float8 AS "changedMs"
  FROM credential c JOIN device d ON d.id = c.device_id JOIN tenant t ON t.id = d.tenant_id
  WHERE c.kind = 'token' AND greatest(c.updated_at, d.updated_at) > to_timestamp(($1::float8 - ${overlapMs}) / 1000)`
const deviceSql = `
  SELECT d.id, t.name AS tenant, d.external_id AS device, d.status = 'enabled' AS enabled,
    (extract(epoch FROM d.updated_at) * 1000)::float8 AS "changedMs"
  FROM device d JOIN tenant t ON t.id = d.tenant_id
  WHERE d.updated_at > to_timestamp(($1::float8 - ${overlapMs}) / 1000) AND d.id > $2 ORDER BY d.id LIMIT ${pageSize}`

/**
 * Reads the registry's tables once, and then what changed: every two seconds, and at once when Postgres notifies. Keeps trying while
 * Postgres is away; the first read is waited for up to 5 s, so that a gateway starts ready where it can.
 */
export async function startRegistryFeed(
  databaseUrl: string,
  sink: { onCredentials(rows: readonly CredentialRow[]): void; onDevices(rows: readonly DeviceRow[]): void },
  log: Log,
): Promise<RegistryFeed> {
  let client: pg.Client | undefined
  let timer: NodeJS.Timeout | undefined
  let reading: Promise<void> | undefined
  let again = false
  let failures = 0
  let hasLoaded = false
  let closed = false
  let sinceMs = 0
  let waiters: (() => void)[] = []

  async function connect(): Promise<pg.Client> {
    const fresh = new pg.Client({
      connectionString: databaseUrl,
      application_name: 'fleetbridge registry',
      connectionTimeoutMillis: 5000,
      query_timeout: 15_000,
      keepAlive: true,
    })
    fresh.on('error', () => drop(fresh))
    fresh.on('end', () => drop(fresh))
    fresh.on('notification', () => poll())
    await fresh.connect()
    await fresh.query('LISTEN fleetbridge_registry')
    return fresh
  }

  function drop(gone: pg.Client): void {
    if (client === gone) client = undefined
  }

  async function read(): Promise<void> {
    client ??= await connect()
    let newestMs = sinceMs
    const credentials = await client.query<CredentialRow & { changedMs: number }>(credentialSql, [sinceMs])
    for (const { changedMs } of credentials.rows) newestMs = Math.max(newestMs, changedMs)
    for (let after = 0; ; ) {
      const { rows } = await client.query<DeviceRow & { id: number; changedMs: number }>(deviceSql, [sinceMs, after])
      for (const { changedMs } of rows) newestMs = Math.max(newestMs, changedMs)
      sink.onDevices(rows)
      if (rows.length < pageSize) break
      after = (rows[rows.length - 1] as { id: number }).id
    }
    sink.onCredentials(credentials.rows)
    sinceMs = newestMs
    if (!hasLoaded) log.info({ credentials: credentials.rowCount }, 'credentials are loaded')
    hasLoaded = true
  }

  function poll(): void {
    again = reading !== undefined
    if (closed || reading !== undefined) return
    clearTimeout(timer)
    const answered = waiters // those who ask while the read is under way may have written after it began
    waiters = []
    reading = read()
      .then(
        () => {
          if (failures > 1) log.info('the registry is read again')
          failures = 0
          for (const resolve of answered) resolve()
        },
        (error: unknown) => {
          waiters.unshift(...answered)
          if (failures++ === 1) log.warn({ err: error }, 'the registry cannot be read; what is known stays valid')
          void client?.end().catch(() => {})
          client = undefined
        },
      )
      .finally(() => {
        reading = undefined
        if (closed) return
        const delayMs = failures === 0 ? pollMs : Math.min(maxBackOffMs, 100 * 2 ** failures)
        if (again && failures === 0) setImmediate(poll)
        else timer = setTimeout(poll, delayMs)
      })
  }

  const refreshed = () =>
    new Promise<void>((resolve) => {
      waiters.push(resolve)
      poll()
    })

  const patience = new Promise<void>((resolve) => setTimeout(resolve, 5000).unref())
  await Promise.race([refreshed(), patience])
  if (!hasLoaded) log.warn('Postgres does not answer: devices are refused until credentials could be read once')

  return {
    ...handleOf(async () => {
      closed = true
      clearTimeout(timer)
      await reading
      await client?.end().catch(() => {})
    }),
    loaded: () => hasLoaded,
    refreshed,
  }
}
