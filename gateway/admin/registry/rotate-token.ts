import { writeAudit } from './audit.ts'
import { type Change, type Client, inTransaction } from './change.ts'
import { type CredentialRole, checkCredentialId, checkRoom, insertCredential } from './credentials.ts'
import { lockDevice } from './device-lock.ts'
import { checkDeviceId } from './names.ts'
import { conflict, missing } from './refusal.ts'
import { tenantNumber } from './tenants.ts'
import { hashOf, newToken } from './tokens.ts'

export interface Rotation {
  /** One token by its id, or all tokens of a device. */
  readonly of: { readonly id: string } | { readonly tenant: string; readonly device: string }
  /** How long the old ones stay good beside the new one. */
  readonly overlapMs: number
  readonly expires?: Date | undefined
}

export interface Rotated {
  readonly id: string
  readonly device: string
  readonly token: string
  /** The old ones, which end by then. */
  readonly replaced: string[]
}

interface Old {
  readonly id: string
  readonly role: CredentialRole
  readonly pattern: string | null
  readonly name: string | null
}

/**
 * Adds a token with the rights of the old ones, and lets these end after the overlap (sooner where they would anyway). Passwords and
 * certificates stay as they are.
 * @throws BridgeError BRIDGE_USAGE when there is no live token, or several with other rights
 */
export async function rotateToken(client: Client, by: Change, { of, overlapMs, expires }: Rotation): Promise<Rotated> {
  if ('id' in of) checkCredentialId(of.id)
  else checkDeviceId(of.device)
  const token = newToken()
  return await inTransaction(client, async () => {
    const { tenant, device } = 'id' in of ? await ownerOf(client, of.id) : of
    const tenantId = await tenantNumber(client, { ...by, makesTenants: false }, tenant)
    const deviceId = await lockDevice(client, { tenant, tenantId, device })
    const old = await liveTokens(client, deviceId, 'id' in of ? of.id : null)
    const [newest] = old
    if (newest === undefined)
      throw conflict(
        `${JSON.stringify(device)} has no live token to rotate. Add one: npx fleetbridge credentials add --device ID`,
      )
    if (old.some(({ role, pattern }) => role !== newest.role || pattern !== newest.pattern))
      throw conflict(
        `the tokens of ${JSON.stringify(device)} have different rights. Rotate one by its id: npx fleetbridge credentials list --device ID`,
      )
    await checkRoom(client, deviceId, 'token')
    const { role, pattern, name } = newest
    const id = await insertCredential(client, deviceId, {
      kind: 'token',
      secretHash: hashOf(token),
      passwordHash: null,
      role,
      pattern,
      name,
      expires: expires ?? null,
    })
    const replaced = old.map((row) => row.id)
    await client.query(
      `UPDATE credential SET expires_at = least(expires_at, now() + $2 * interval '1 millisecond') WHERE id = ANY($1)`,
      [replaced, overlapMs],
    )
    const details = { credential: id, replaced, overlapMs, ...(expires && { expires }) }
    await writeAudit(client, by, 'credential.rotate', [{ tenant, subject: device, details }])
    return { id, device, token, replaced }
  })
}

async function ownerOf(client: Client, id: string): Promise<{ tenant: string; device: string }> {
  const { rows } = await client.query<{ tenant: string; device: string; kind: string }>(
    `SELECT tenant.name AS tenant, external_id AS device, kind
     FROM credential JOIN device ON device.id = credential.device_id JOIN tenant ON tenant.id = device.tenant_id WHERE credential.id = $1`,
    [id],
  )
  const [found] = rows
  if (found === undefined) throw missing(`there is no credential ${id}. List them: npx fleetbridge credentials list`)
  if (found.kind !== 'token')
    throw conflict(`the credential ${id} is a ${found.kind}; only tokens are rotated. Add another.`)
  return found
}

/** The newest first. */
async function liveTokens(client: Client, deviceId: number, id: string | null): Promise<Old[]> {
  const { rows } = await client.query<Old>(
    `SELECT id, CASE WHEN fleet THEN 'fleet' WHEN operator THEN 'operator' ELSE 'device' END AS role, pattern, name FROM credential
     WHERE device_id = $1 AND kind = 'token' AND revoked_at IS NULL AND coalesce(expires_at > now(), true) AND ($2::uuid IS NULL OR id = $2)
     ORDER BY created_at DESC, id`,
    [deviceId, id],
  )
  return rows
}
