import { createHash, randomBytes } from 'node:crypto'
import type { Pool } from 'pg'
import { BridgeError } from '#platform/errors.ts'
import type { DeviceLogin } from './transport.ts'

/** Creates devices `PREFIX0000…` with a token each in tenant `default`, in one statement. */
export async function registerDevices(pool: Pool, prefix: string, count: number): Promise<DeviceLogin[]> {
  const digits = Math.max(4, String(count - 1).length)
  const logins = Array.from({ length: count }, (_, index) => ({
    device: `${prefix}${String(index).padStart(digits, '0')}`,
    token: `fb_${randomBytes(32).toString('base64url')}`,
  }))
  const { rowCount } = await pool.query(
    `WITH given AS (SELECT * FROM unnest($1::text[], $2::bytea[]) AS given (external_id, secret_hash)),
     made AS (
       INSERT INTO device (tenant_id, external_id, type)
       SELECT tenant.id, given.external_id, 'simulated' FROM given, tenant WHERE tenant.name = 'default'
       RETURNING id, external_id
     )
     INSERT INTO credential (device_id, kind, secret_hash)
     SELECT made.id, 'token', given.secret_hash FROM made JOIN given USING (external_id)`,
    [logins.map(({ device }) => device), logins.map(({ token }) => hashOf(token))],
  )
  if (rowCount !== count)
    throw new BridgeError('BRIDGE_INTERNAL', `${rowCount} of ${count} simulated devices could be registered`)
  return logins
}

/**
 * Reads lines of `device,token` without a header, as `devices add --csv` prints them.
 * @throws BridgeError BRIDGE_USAGE that names the line
 */
export function readLogins(csv: string): DeviceLogin[] {
  const logins: DeviceLogin[] = []
  const devices = new Set<string>()
  const tokens = new Set<string>()
  for (const [index, line] of csv.split(/\r?\n/).entries()) {
    if (line.trim() === '') continue
    // Ids may hold commas, tokens never do.
    const comma = line.lastIndexOf(',')
    const device = line.slice(0, comma).trim()
    const token = line.slice(comma + 1).trim()
    if (comma < 1 || device === '' || token === '')
      throw new BridgeError('BRIDGE_USAGE', `line ${index + 1} is not "device,token"`)
    if (devices.has(device) || tokens.has(token))
      throw new BridgeError('BRIDGE_USAGE', `line ${index + 1} repeats the device or the token of an earlier line`)
    devices.add(device)
    tokens.add(token)
    logins.push({ device, token })
  }
  if (logins.length === 0) throw new BridgeError('BRIDGE_USAGE', 'no lines of "device,token"')
  return logins
}

/**
 * Finds the rows' device ids by the tokens, as the gateway does.
 * @returns the ids in the order of `logins`
 * @throws BridgeError BRIDGE_USAGE when this database does not know a token
 */
export async function deviceIdsOf(pool: Pool, logins: readonly DeviceLogin[]): Promise<number[]> {
  const { rows } = await pool.query<{ hash: string; device_id: number }>(
    `SELECT encode(secret_hash, 'hex') AS hash, device_id FROM credential WHERE secret_hash = ANY ($1::bytea[])`,
    [logins.map(({ token }) => hashOf(token))],
  )
  const ids = new Map(rows.map(({ hash, device_id }) => [hash, device_id]))
  return logins.map(({ device, token }) => {
    const id = ids.get(hashOf(token).toString('hex'))
    if (id === undefined)
      throw new BridgeError('BRIDGE_USAGE', `this database does not know the token of ${device}: is it the right one?`)
    return id
  })
}

function hashOf(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}
