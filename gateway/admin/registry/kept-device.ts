import { writeAudit } from './audit.ts'
import { type Change, type Client, inTransaction } from './change.ts'
import { insertCredential } from './credentials.ts'
import { lockDevice, makeDevice } from './device-lock.ts'
import { tenantNumber } from './tenants.ts'
import { hashOf } from './tokens.ts'

/**
 * Makes the device live with this very token; false when the token was revoked or expired.
 * @throws BridgeError BRIDGE_USAGE when the device was removed
 */
export async function keepDevice(
  client: Client,
  by: Change,
  { tenant, device, token }: { tenant: string; device: string; token: string },
): Promise<boolean> {
  return await inTransaction(client, async () => {
    const tenantId = await tenantNumber(client, by, tenant)
    await makeDevice(client, by, { tenant, tenantId, device })
    const deviceId = await lockDevice(client, { tenant, tenantId, device })
    const { rows } = await client.query<{ live: boolean }>(
      'SELECT revoked_at IS NULL AND coalesce(expires_at > now(), true) AS live FROM credential WHERE secret_hash = $1',
      [hashOf(token)],
    )
    if (rows[0] !== undefined) return rows[0].live
    const id = await insertCredential(client, deviceId, {
      kind: 'token',
      secretHash: hashOf(token),
      passwordHash: null,
      role: 'device',
      pattern: null,
      name: null,
      expires: null,
    })
    await writeAudit(client, by, 'credential.add', [
      { tenant, subject: device, details: { credential: id, kind: 'token', role: 'device' } },
    ])
    return true
  })
}
