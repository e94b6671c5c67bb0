import pg from 'pg'
import { type Handle, handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'
import type { DeviceTypeRow, DeviceTypes } from './device-rules.ts'

export interface CredentialRow {
  readonly credentialId: string
  readonly kind: 'token' | 'password' | 'certificate'
  /** SHA-256 of the token or certificate; null for a password. */
  readonly secretHash: Buffer | null
  readonly passwordHash: string | null
  readonly tenant: string
  readonly device: string
  readonly fleet: boolean
  readonly operator: boolean
  readonly pattern: string | null
  readonly createdMs: number
  readonly expiresAtMs: number | null
  readonly revoked: boolean
}

export interface DeviceRow {
  readonly tenant: string
  readonly device: string
  /** False when it is disabled or removed. */
  readonly enabled: boolean
  /** The fleet device whose credential brought it on first sight. */
  readonly bringer: string | null
  readonly type: string | null
  /** Its other names; null for none. */
  readonly aliases: readonly string[] | null
}

/** Where the rows go. */
export interface RegistrySink {
  /** @param full every row follows, not only what changed */
  begin(full: boolean): void
  onDevices(rows: readonly DeviceRow[]): void
  onCredentials(rows: readonly CredentialRow[]): void
  /** All rows of this read were handed over; after a full read, what was not among them is gone. */
  end(full: boolean): void
  /** How many credentials it holds. */
  readonly size: number
}

export interface RegistryFeed extends Handle {
  loaded(): boolean
  refreshed(): Promise<void>
}

interface Stand {
  readonly nowMs: number
  readonly credentials: number
  /** Another text when any of them has changed. */
  readonly deviceTypes: string
}

/** Without a notification (a pooler swallows them) a change is known after this and a read: within 2 s. */
const pollMs = 1000
const maxBackOffMs = 5000
/**
 * Rows are read again for so long, since `updated_at` is set before the commit that shows it. A commit notifies, and then even a long
 * transaction is looked for; the wide look every ten seconds is for servers behind a pooler. Not every time: after an import of 100,000
 * it would read all of them thirty times.
 */
const overlapMs = { narrow: 2000, wide: 30_000 }
const wideEveryMs = 10_000
const maxRestMs = 500
/** Should a full read not make the numbers equal, the next is not made every second. */
const fullAgainMs = 30_000
const pageSize = 5000

/** The transaction's time: earlier than what its snapshot may miss. The count finds deleted rows, which no `updated_at` tells. */
const standSql = `SELECT (extract(epoch FROM now()) * 1000)::float8 AS "nowMs", (SELECT count(*) FROM credential)::int AS credentials,
  (SELECT concat(count(*), ' ', sum(extract(epoch FROM updated_at))) FROM device_type) AS "deviceTypes"`
/** They are few: all are read when one has changed. */
const deviceTypeSql = `SELECT t.name AS tenant, y.name, y.identity, y.contract_mode AS "contractMode", y.contract
  FROM device_type y JOIN tenant t ON t.id = y.tenant_id`
const changedSince = (table: string, full: boolean) =>
  full ? '' : `${table}.updated_at > to_timestamp($3::float8 / 1000) AND`
const credentialSql = (full: boolean) => `
  SELECT c.id AS "credentialId", c.kind, c.secret_hash AS "secretHash", c.password_hash AS "passwordHash", t.name AS tenant,
    d.external_id AS device, c.fleet, c.operator, c.pattern, (extract(epoch FROM c.created_at) * 1000)::float8 AS "createdMs",
    CASE WHEN isfinite(c.expires_at) THEN (extract(epoch FROM c.expires_at) * 1000)::float8
      WHEN c.expires_at = '-infinity' THEN 0 END AS "expiresAtMs",
    c.revoked_at IS NOT NULL AS revoked
  FROM credential c JOIN device d ON d.id = c.device_id JOIN tenant t ON t.id = d.tenant_id
  WHERE ${changedSince('c', full)} c.id > $1 ORDER BY c.id LIMIT $2`
const deviceSql = (full: boolean) => `
  SELECT d.id, t.name AS tenant, d.external_id AS device, d.status = 'enabled' AS enabled, b.external_id AS bringer, d.type,
    CASE WHEN d.aliases <> '{}' THEN d.aliases END AS aliases
  FROM device d JOIN tenant t ON t.id = d.tenant_id
    LEFT JOIN credential c ON c.id = d.created_by LEFT JOIN device b ON b.id = c.device_id AND b.tenant_id = d.tenant_id
  WHERE ${changedSince('d', full)} d.id > $1 ORDER BY d.id LIMIT $2`

/**
 * Reads the registry's tables once, and then what changed: every second, and at once when Postgres notifies. After every reconnect, and when
 * the number of credentials is not what it should be (some were deleted), everything is read again. Keeps trying while Postgres is away;
 * the first read is waited for up to 5 s, so that a gateway starts ready where it can.
 */
export async function startRegistryFeed(
  databaseUrl: string,
  sink: RegistrySink,
  deviceTypes: DeviceTypes,
  log: Log,
): Promise<RegistryFeed> {
  let client: pg.Client | undefined
  let timer: NodeJS.Timeout | undefined
  let reading: Promise<void> | undefined
  let again = false
  let failures = 0
  let hasLoaded = false
  let closed = false
  /** Undefined: read everything, for the server may be another, and behind the one before. */
  let sinceMs: number | undefined
  let typesRead = ''
  let isNotified = false
  let wideAtMs = 0
  let readTookMs = 0
  let fullFromMs = 0
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
    fresh.on('notification', pollWide)
    try {
      await fresh.connect()
      await fresh.query('LISTEN fleetbridge_registry')
    } catch (error) {
      void fresh.end().catch(() => {}) // or it would stay open beside the next one
      throw error
    }
    sinceMs = undefined
    return fresh
  }

  function drop(gone: pg.Client): void {
    if (client === gone) client = undefined
  }

  async function read(): Promise<void> {
    client ??= await connect()
    const current = client
    const startedAt = performance.now()
    const isWide = isNotified || startedAt - wideAtMs > wideEveryMs
    isNotified = false
    // One snapshot for all pages and for the count.
    await current.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
    const { rows } = await current.query<Stand>(standSql)
    const stand = rows[0] as Stand
    if (sinceMs === undefined || stand.deviceTypes !== typesRead) {
      deviceTypes.take((await current.query<DeviceTypeRow>(deviceTypeSql)).rows, log)
      typesRead = stand.deviceTypes
    }
    await readRows(current, sinceMs === undefined ? undefined : sinceMs - (isWide ? overlapMs.wide : overlapMs.narrow))
    if (sink.size !== stand.credentials && startedAt >= fullFromMs) {
      if (sinceMs !== undefined) await readRows(current, undefined)
      if (sink.size !== stand.credentials) {
        log.error({ held: sink.size, rows: stand.credentials }, 'credentials in memory are not those in the database')
        fullFromMs = startedAt + fullAgainMs
      }
    }
    await current.query('COMMIT')
    sinceMs = stand.nowMs
    if (isWide) wideAtMs = startedAt
    readTookMs = performance.now() - startedAt
    if (!hasLoaded) log.info({ credentials: stand.credentials }, 'credentials are loaded')
    hasLoaded = true
  }

  async function readRows(from: pg.Client, since: number | undefined): Promise<void> {
    const full = since === undefined
    const more = full ? [] : [since]
    sink.begin(full)
    for (let after = 0; ; ) {
      const { rows } = await from.query<DeviceRow & { id: number }>(deviceSql(full), [after, pageSize, ...more])
      sink.onDevices(rows)
      if (rows.length < pageSize) break
      after = (rows[rows.length - 1] as { id: number }).id
    }
    for (let after = '00000000-0000-0000-0000-000000000000'; ; ) {
      const { rows } = await from.query<CredentialRow>(credentialSql(full), [after, pageSize, ...more])
      sink.onCredentials(rows)
      if (rows.length < pageSize) break
      after = (rows[rows.length - 1] as CredentialRow).credentialId
    }
    sink.end(full)
  }

  function pollWide(): void {
    isNotified = true
    poll()
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
        // An import notifies all the time: half the time is left to the devices.
        if (again && failures === 0) timer = setTimeout(poll, Math.min(maxRestMs, readTookMs))
        else timer = setTimeout(poll, delayMs)
      })
  }

  const refreshed = () =>
    new Promise<void>((resolve) => {
      waiters.push(resolve)
      pollWide()
    })

  const patience = new Promise<void>((resolve) => setTimeout(resolve, 5000).unref())
  await Promise.race([refreshed(), patience])
  if (!hasLoaded) log.warn('Postgres does not answer: devices are refused until credentials could be read once')

  return {
    ...handleOf(async () => {
      closed = true
      clearTimeout(timer)
      await client?.end().catch(() => {}) // ends a read that is under way too: an absent Postgres may not delay the stop
      await reading
    }),
    loaded: () => hasLoaded,
    refreshed,
  }
}
