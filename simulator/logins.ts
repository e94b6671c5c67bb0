import { createHash } from 'node:crypto'
import type { Pool } from 'pg'
import { BridgeError } from '#platform/errors.ts'
import type { DeviceLogin } from './transport.ts'

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
    const device = unquoted(line.slice(0, comma).trim())
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

/** RFC 4180. */
function unquoted(field: string): string {
  return /^".*"$/s.test(field) ? field.slice(1, -1).replaceAll('""', '"') : field
}

function hashOf(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}
