import type { Change, Client } from './change.ts'

export type AuditAction =
  | 'tenant.add'
  | 'tenant.remove'
  | 'tenant.set'
  | 'device.add'
  | 'device.enable'
  | 'device.disable'
  | 'device.remove'
  | 'device.alias'
  | 'credential.add'
  | 'credential.rotate'
  | 'credential.revoke'
  | 'admin-token.add'
  | 'admin-token.revoke'
  | 'limit.set'
  | 'limit.unset'
  | 'dead-letter.replay'
  | 'dead-letter.purge'
  | 'device-type.set'
  | 'device-type.remove'
  | 'device-type.assign'
  | 'reading.redecode'

export interface AuditEntry {
  readonly tenant: string | null
  /** The device, tenant or admin token that was changed. */
  readonly subject: string
  /** Never holds a secret. */
  readonly details?: Readonly<Record<string, unknown>>
}

/** Written in the transaction of the change itself: there is none without the other. */
export async function writeAudit(
  client: Client,
  { actor }: Change,
  action: AuditAction,
  entries: readonly AuditEntry[],
): Promise<void> {
  if (entries.length === 0) return
  await client.query(
    `INSERT INTO audit (actor, action, tenant, subject, details)
     SELECT $1, $2, tenant, subject, details FROM unnest($3::text[], $4::text[], $5::jsonb[]) AS entry (tenant, subject, details)`,
    [
      actor,
      action,
      entries.map(({ tenant }) => tenant),
      entries.map(({ subject }) => subject),
      entries.map(({ details }) => JSON.stringify(details ?? {})),
    ],
  )
}

export interface AuditRow {
  readonly id: number
  readonly at: string
  readonly actor: string
  readonly action: string
  readonly tenant: string | null
  readonly subject: string | null
  readonly details: Record<string, unknown>
}

export interface AuditFilter {
  readonly limit: number
  /** Only those older than this one. */
  readonly before?: number | undefined
  readonly tenant?: string | undefined
  readonly subject?: string | undefined
  readonly action?: string | undefined
}

/** The newest first. */
export async function listAudit(client: Client, { limit, before, tenant, subject, action }: AuditFilter) {
  const { rows } = await client.query<AuditRow>(
    `SELECT id::float8 AS id, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS at, actor, action, tenant, subject, details
     FROM audit
     WHERE ($2::bigint IS NULL OR id < $2) AND ($3::text IS NULL OR tenant = $3) AND ($4::text IS NULL OR subject = $4)
       AND ($5::text IS NULL OR action = $5)
     ORDER BY id DESC LIMIT $1`,
    [limit, before ?? null, tenant ?? null, subject ?? null, action ?? null],
  )
  return rows
}
