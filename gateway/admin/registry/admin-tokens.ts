import { writeAudit } from './audit.ts'
import { type Change, type Client, inTransaction, isoTime } from './change.ts'
import { checkCredentialId } from './credentials.ts'
import { conflict, invalid, missing } from './refusal.ts'
import { tenantNumber } from './tenants.ts'
import { hashOf, newAdminToken } from './tokens.ts'

export const adminRoles = ['viewer', 'operator', 'admin'] as const
export type AdminRole = (typeof adminRoles)[number]

export interface AdminTokenRow {
  readonly id: string
  readonly name: string
  readonly role: AdminRole
  /** Null: of all. */
  readonly tenant: string | null
  readonly live: boolean
  readonly created: string
  readonly expires: string | null
  readonly revoked: string | null
}

/** Those of the configuration and of a first start, which are in no table. */
const reservedNames = new Set(['config', 'up'])

/** @returns the token, which is shown this once @throws BridgeError BRIDGE_USAGE */
export async function addAdminToken(
  client: Client,
  by: Change,
  {
    name,
    role,
    expires,
    tenant,
  }: {
    name: string
    role: AdminRole
    expires?: Date | undefined
    /** Reads what is of this tenant, and nothing else. */
    tenant?: string | undefined
  },
): Promise<{ id: string; name: string; role: AdminRole; token: string }> {
  if (!/^[\w@.-]{1,64}$/.test(name)) throw invalid('the name of an admin token is 1 to 64 letters, digits and _ @ . -')
  if (reservedNames.has(name)) throw invalid(`the name ${name} stands for a token that is in no table. Choose another.`)
  if (tenant !== undefined && role !== 'viewer')
    throw invalid('a token of one tenant reads: its role is viewer. Leave out the tenant, or the role.')
  const token = newAdminToken()
  return await inTransaction(client, async () => {
    await client.query('LOCK TABLE admin_token IN SHARE ROW EXCLUSIVE MODE') // the audit names who did it: one a name
    const { rowCount } = await client.query(
      'SELECT FROM admin_token WHERE name = $1 AND revoked_at IS NULL AND coalesce(expires_at > now(), true)',
      [name],
    )
    if (rowCount !== 0) throw conflict(`there is a live admin token ${name}. Revoke it first, or choose another name.`)
    const tenantId = tenant === undefined ? null : await tenantNumber(client, { ...by, makesTenants: false }, tenant)
    const { rows } = await client.query<{ id: string }>(
      'INSERT INTO admin_token (name, role, secret_hash, expires_at, tenant_id) VALUES ($1, $2, $3, $4, $5) RETURNING id',
      [name, role, hashOf(token), expires ?? null, tenantId],
    )
    const { id } = rows[0] as { id: string }
    const details = { id, role, ...(expires && { expires }) }
    await writeAudit(client, by, 'admin-token.add', [{ tenant: tenant ?? null, subject: name, details }])
    return { id, name, role, token }
  })
}

/** The newest 1,000. */
export async function listAdminTokens(client: Client): Promise<AdminTokenRow[]> {
  const { rows } = await client.query<AdminTokenRow>(
    `SELECT id, admin_token.name, role, (SELECT name FROM tenant WHERE tenant.id = tenant_id) AS tenant,
       revoked_at IS NULL AND coalesce(expires_at > now(), true) AS live, ${isoTime('created_at')} AS created,
       ${isoTime('expires_at')} AS expires, ${isoTime('revoked_at')} AS revoked
     FROM admin_token ORDER BY admin_token.created_at DESC, id LIMIT 1000`,
  )
  return rows
}

/** @returns false when it was revoked before @throws BridgeError BRIDGE_USAGE when it is not there */
export async function revokeAdminToken(client: Client, by: Change, id: string): Promise<boolean> {
  checkCredentialId(id)
  return await inTransaction(client, async () => {
    const { rows } = await client.query<{ name: string; revoked: boolean }>(
      'SELECT name, revoked_at IS NOT NULL AS revoked FROM admin_token WHERE id = $1 FOR UPDATE',
      [id],
    )
    const [found] = rows
    if (found === undefined)
      throw missing(`there is no admin token ${id}. List them: npx fleetbridge admin-tokens list`)
    if (found.revoked) return false
    await client.query('UPDATE admin_token SET revoked_at = now() WHERE id = $1', [id])
    await writeAudit(client, by, 'admin-token.revoke', [{ tenant: null, subject: found.name, details: { id } }])
    return true
  })
}

/** Whose token has this hash; undefined when it is unknown, revoked or expired. */
export async function findAdminToken(
  client: Pick<Client, 'query'>,
  hash: Buffer,
): Promise<{ name: string; role: AdminRole; tenant?: string } | undefined> {
  const { rows } = await client.query<{ name: string; role: AdminRole; tenant: string | null }>(
    `SELECT name, role, (SELECT name FROM tenant WHERE tenant.id = tenant_id) AS tenant FROM admin_token
     WHERE secret_hash = $1 AND revoked_at IS NULL AND coalesce(expires_at > now(), true)`,
    [hash],
  )
  const [found] = rows
  if (found === undefined) return undefined
  const { name, role, tenant } = found
  return { name, role, ...(tenant !== null && { tenant }) }
}
