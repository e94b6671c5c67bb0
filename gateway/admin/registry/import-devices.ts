import { takenNames, takenWords } from './aliases.ts'
import { writeAudit } from './audit.ts'
import { type Change, type Client, inTransaction } from './change.ts'
import type { ImportRow, RejectedLine } from './device-csv.ts'
import { refusalReason } from './refusal.ts'
import { tenantNumber } from './tenants.ts'
import { hashOf, newToken } from './tokens.ts'

export interface ImportOptions {
  /** Devices that are there get a new token, and their old ones end after the overlap. */
  readonly renew: boolean
  readonly overlapMs: number
}

export interface ImportedDevice {
  readonly tenant: string
  readonly device: string
  readonly token: string
}

export interface ImportedBatch {
  readonly added: readonly ImportedDevice[]
  readonly renewed: readonly ImportedDevice[]
  /** How many were there already and were left as they are. */
  readonly skipped: number
  readonly rejected: readonly RejectedLine[]
}

/**
 * One batch, a transaction for each of its tenants: an interruption leaves whole batches behind, and a second run adds the rest. Devices that
 * are there are left alone unless they shall be renewed.
 * @param rows of different devices
 */
export async function importBatch(
  client: Client,
  by: Change,
  rows: readonly ImportRow[],
  options: ImportOptions,
): Promise<ImportedBatch> {
  const added: ImportedDevice[] = []
  const renewed: ImportedDevice[] = []
  const rejected: RejectedLine[] = []
  let skipped = 0
  for (const [tenant, ofTenant] of Map.groupBy(rows, (row) => row.tenant)) {
    try {
      const made = await inTransaction(client, () => importOfTenant(client, by, { tenant, rows: ofTenant, options }))
      added.push(...made.added)
      renewed.push(...made.renewed)
      rejected.push(...made.rejected)
      skipped += made.skipped
    } catch (error) {
      if (refusalReason(error) === undefined) throw error
      const reason = (error as Error).message // the tenant is unknown or was removed: so for all its rows
      rejected.push(...ofTenant.map(({ line, device }) => ({ line, device, reason })))
    }
  }
  return { added, renewed, skipped, rejected }
}

async function importOfTenant(
  client: Client,
  by: Change,
  { tenant, rows: given, options }: { tenant: string; rows: readonly ImportRow[]; options: ImportOptions },
): Promise<ImportedBatch> {
  const namesAliases = given.some(({ aliases }) => aliases.length > 0)
  const tenantId = await tenantNumber(client, by, tenant, namesAliases ? 'FOR UPDATE' : 'FOR SHARE')
  const { rows, rejected } = await withFreeNames(client, tenantId, given)
  const made = rows.map(({ device }) => ({ tenant, device, token: newToken() }))
  const { rows: inserted } = await client.query<{ device: string }>(
    `WITH given AS (SELECT * FROM unnest($2::text[], $3::text[], $4::text[], $5::bytea[], $6::jsonb[]) AS given (id, type, site, hash, aliases)),
     added AS (
       INSERT INTO device (tenant_id, external_id, type, site, aliases)
       SELECT $1, id, type, site, ARRAY(SELECT jsonb_array_elements_text(aliases)) FROM given ORDER BY id
       ON CONFLICT (tenant_id, external_id) DO NOTHING RETURNING id, external_id
     ),
     credentials AS (
       INSERT INTO credential (device_id, secret_hash) SELECT added.id, hash FROM added JOIN given ON given.id = added.external_id
     )
     SELECT external_id AS device FROM added`,
    [
      tenantId,
      made.map(({ device }) => device),
      rows.map(({ type }) => type),
      rows.map(({ site }) => site),
      made.map(({ token }) => hashOf(token)),
      rows.map(({ aliases }) => JSON.stringify(aliases)),
    ],
  )
  const isNew = new Set(inserted.map(({ device }) => device))
  const added = made.filter(({ device }) => isNew.has(device))
  await writeAudit(
    client,
    by,
    'device.add',
    added.map(({ device }) => ({ tenant, subject: device, details: { import: true } })),
  )
  const others = made.filter(({ device }) => !isNew.has(device))
  const removed = await removedAmong(client, tenantId, others)
  const there = others.filter(({ device }) => !removed.has(device))
  if (options.renew) await renew(client, by, { tenant, tenantId, devices: there, overlapMs: options.overlapMs })
  return {
    added,
    renewed: options.renew ? there : [],
    skipped: options.renew ? 0 : there.length,
    rejected: rejected.concat(
      rows
        .filter(({ device }) => removed.has(device))
        .map(({ line, device }) => ({ line, device, reason: 'was removed, and an id is never given to another' })),
    ),
  }
}

/** Without the rows whose id is an alias of another device, or whose aliases are taken; a device that is there keeps its own. */
async function withFreeNames(
  client: Client,
  tenantId: number,
  rows: readonly ImportRow[],
): Promise<{ rows: readonly ImportRow[]; rejected: RejectedLine[] }> {
  const taken = await takenNames(
    client,
    tenantId,
    rows.flatMap(({ device, aliases }) => [device, ...aliases]),
  )
  const free: ImportRow[] = []
  const rejected: RejectedLine[] = []
  for (const row of rows) {
    const { line, device, aliases } = row
    const name = [device, ...aliases].find((one) => ![undefined, device].includes(taken.get(one)))
    if (name === undefined) free.push(row)
    else rejected.push({ line, device, reason: `cannot be: ${takenWords(name, taken.get(name) as string)}` })
  }
  return { rows: free, rejected }
}

async function removedAmong(
  client: Client,
  tenantId: number,
  devices: readonly ImportedDevice[],
): Promise<ReadonlySet<string>> {
  if (devices.length === 0) return new Set()
  const { rows } = await client.query<{ device: string }>(
    `SELECT external_id AS device FROM device WHERE tenant_id = $1 AND external_id = ANY($2) AND status = 'removed'`,
    [tenantId, devices.map(({ device }) => device)],
  )
  return new Set(rows.map(({ device }) => device))
}

/** The old tokens of plain devices end after the overlap; those of fleets and operators stay. */
async function renew(
  client: Client,
  by: Change,
  {
    tenant,
    tenantId,
    devices,
    overlapMs,
  }: { tenant: string; tenantId: number; devices: readonly ImportedDevice[]; overlapMs: number },
): Promise<void> {
  if (devices.length === 0) return
  const names = devices.map(({ device }) => device)
  // Locked in one order: two renewals of the same devices wait for each other and do not stand in each other's way.
  await client.query(
    'SELECT FROM device WHERE tenant_id = $1 AND external_id = ANY($2) ORDER BY id FOR NO KEY UPDATE',
    [tenantId, names],
  )
  await client.query(
    `UPDATE credential SET expires_at = least(expires_at, now() + $3 * interval '1 millisecond')
     FROM device WHERE device.id = credential.device_id AND device.tenant_id = $1 AND device.external_id = ANY($2)
       AND kind = 'token' AND NOT fleet AND NOT operator AND revoked_at IS NULL AND coalesce(expires_at > now(), true)`,
    [tenantId, names, overlapMs],
  )
  await client.query(
    `INSERT INTO credential (device_id, secret_hash)
     SELECT device.id, hash FROM unnest($2::text[], $3::bytea[]) AS given (id, hash)
     JOIN device ON device.tenant_id = $1 AND device.external_id = given.id`,
    [tenantId, names, devices.map(({ token }) => hashOf(token))],
  )
  const details = { import: true, overlapMs }
  await writeAudit(
    client,
    by,
    'credential.rotate',
    devices.map(({ device }) => ({ tenant, subject: device, details })),
  )
}
