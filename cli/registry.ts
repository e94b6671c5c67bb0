import { createHash, randomBytes } from 'node:crypto'
import pg from 'pg'
import { BridgeError } from '#platform/errors.ts'

export interface NewToken {
  readonly device: string
  readonly token: string
}

/** `fb_` and 256 random bits. */
export function newToken(): string {
  return `fb_${randomBytes(32).toString('base64url')}`
}

export function hashOf(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}

/**
 * Adds devices with a token each, all or none, in one statement: 500 cost about as much as one.
 * @throws BridgeError BRIDGE_USAGE when an id is not one, or there already
 */
export async function addDevices(client: pg.Client, tenant: string, ids: readonly string[]): Promise<NewToken[]> {
  for (const id of ids) checkDeviceId(id)
  if (new Set(ids).size !== ids.length) throw new BridgeError('BRIDGE_USAGE', 'the same device is named twice')
  const made = ids.map((device) => ({ device, token: newToken() }))
  return await inTransaction(client, async () => {
    const tenantId = await tenantNumber(client, tenant)
    const { rows } = await client.query<{ external_id: string }>(
      'SELECT external_id FROM device WHERE tenant_id = $1 AND external_id = ANY($2) ORDER BY external_id LIMIT 4',
      [tenantId, ids],
    )
    if (rows.length > 0) throw existing(rows.map(({ external_id }) => external_id))
    await client.query(
      `WITH added AS (
         INSERT INTO device (tenant_id, external_id) SELECT $1, id FROM unnest($2::text[]) AS id RETURNING id, external_id
       )
       INSERT INTO credential (device_id, secret_hash)
       SELECT added.id, secret.hash FROM added JOIN unnest($2::text[], $3::bytea[]) AS secret (device, hash) ON secret.device = added.external_id`,
      [tenantId, ids, made.map(({ token }) => hashOf(token))],
    )
    return made
  })
}

/** One more token for a device that is there. @throws BridgeError BRIDGE_USAGE when it is not */
export async function addCredential(client: pg.Client, tenant: string, device: string): Promise<NewToken> {
  const token = newToken()
  const { rowCount } = await client.query(
    `INSERT INTO credential (device_id, secret_hash)
     SELECT device.id, $3 FROM device JOIN tenant ON tenant.id = device.tenant_id WHERE tenant.name = $1 AND device.external_id = $2`,
    [tenant, device, hashOf(token)],
  )
  if (rowCount === 0)
    throw new BridgeError(
      'BRIDGE_USAGE',
      `the tenant ${tenant} has no device ${JSON.stringify(device)}. Add it: npx fleetbridge devices add ${quoted(device)}`,
    )
  return { device, token }
}

/** A fleet credential speaks for every device that its pattern covers; it is a device too, made when it is not there. */
export async function addFleetCredential(
  client: pg.Client,
  { tenant, name, pattern }: { tenant: string; name: string; pattern: string | undefined },
): Promise<NewToken> {
  checkDeviceId(name)
  if (pattern !== undefined && (pattern === '' || Buffer.byteLength(pattern) > 256))
    throw new BridgeError('BRIDGE_USAGE', 'a pattern has 1 to 256 bytes; * stands for any characters')
  const token = newToken()
  return await inTransaction(client, async () => {
    const tenantId = await tenantNumber(client, tenant)
    await client.query('INSERT INTO device (tenant_id, external_id) VALUES ($1, $2) ON CONFLICT DO NOTHING', [
      tenantId,
      name,
    ])
    await client.query(
      `INSERT INTO credential (device_id, secret_hash, fleet, pattern, name)
       SELECT id, $3, true, $4, $2 FROM device WHERE tenant_id = $1 AND external_id = $2`,
      [tenantId, name, hashOf(token), pattern ?? null],
    )
    return { device: name, token }
  })
}

/** Makes the device live with this very token; false when the token was revoked or expired. */
export async function keepDevice(client: pg.Client, device: string, token: string): Promise<boolean> {
  return await inTransaction(client, async () => {
    const tenantId = await tenantNumber(client, 'default')
    await client.query('INSERT INTO device (tenant_id, external_id) VALUES ($1, $2) ON CONFLICT DO NOTHING', [
      tenantId,
      device,
    ])
    await client.query(
      `INSERT INTO credential (device_id, secret_hash)
       SELECT id, $3 FROM device WHERE tenant_id = $1 AND external_id = $2 ON CONFLICT (secret_hash) DO NOTHING`,
      [tenantId, device, hashOf(token)],
    )
    const { rows } = await client.query<{ live: boolean }>(
      'SELECT revoked_at IS NULL AND coalesce(expires_at > now(), true) AS live FROM credential WHERE secret_hash = $1',
      [hashOf(token)],
    )
    return rows[0]?.live === true
  })
}

export interface DeviceRow {
  readonly device: string
  readonly status: string
  readonly credentials: number
  readonly fleet: boolean
  readonly created: string
  readonly lastReading: string | null
}

export async function listDevices(client: pg.Client, tenant: string, limit: number): Promise<DeviceRow[]> {
  const { rows } = await client.query<DeviceRow>({
    text: `SELECT external_id AS device, status,
             (SELECT count(*)::int FROM credential WHERE device_id = device.id AND revoked_at IS NULL AND coalesce(expires_at > now(), true)) AS credentials,
             EXISTS (SELECT FROM credential WHERE device_id = device.id AND fleet AND revoked_at IS NULL) AS fleet,
             to_char(device.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS created,
             (SELECT to_char(max(event_time) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') FROM latest WHERE device_id = device.id) AS "lastReading"
           FROM device JOIN tenant ON tenant.id = device.tenant_id
           WHERE tenant.name = $1 ORDER BY external_id LIMIT $2`,
    values: [tenant, limit],
  })
  return rows
}

/** @throws BridgeError BRIDGE_USAGE that says which rule the id breaks */
export function checkDeviceId(id: string): void {
  const bytes = Buffer.byteLength(id)
  const broken =
    bytes < 1 || bytes > 128
      ? `has ${bytes} bytes, and 1 to 128 are allowed`
      : /[+#]/.test(id)
        ? 'holds + or #, which MQTT keeps for filters'
        : id.startsWith('$')
          ? 'begins with $'
          : /\p{Cc}/u.test(id)
            ? 'holds a control character'
            : undefined
  if (broken !== undefined)
    throw new BridgeError(
      'BRIDGE_USAGE',
      `the device id ${JSON.stringify(id.slice(0, 140))} ${broken}. Choose another.`,
    )
}

/** Makes the tenant when it is new. */
async function tenantNumber(client: pg.Client, name: string): Promise<number> {
  if (!/^[a-z0-9-]{1,63}$/.test(name))
    throw new BridgeError('BRIDGE_USAGE', `the tenant ${JSON.stringify(name)} is not 1 to 63 of a-z, 0-9 and -`)
  await client.query('INSERT INTO tenant (name) VALUES ($1) ON CONFLICT DO NOTHING', [name])
  const { rows } = await client.query<{ id: number }>('SELECT id FROM tenant WHERE name = $1', [name])
  return (rows[0] as { id: number }).id
}

async function inTransaction<T>(client: pg.Client, work: () => Promise<T>): Promise<T> {
  await client.query('BEGIN')
  try {
    const result = await work()
    await client.query('COMMIT')
    return result
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined)
    // Two commands added the same device at once.
    if (error instanceof pg.DatabaseError && error.code === '23505')
      throw new BridgeError('BRIDGE_USAGE', 'a device of this name was added just now; nothing was added', {
        cause: error,
      })
    throw error
  }
}

function existing(found: readonly string[]): BridgeError {
  const shown = found
    .slice(0, 3)
    .map((id) => JSON.stringify(id))
    .join(', ')
  return new BridgeError(
    'BRIDGE_USAGE',
    `${shown}${found.length > 3 ? ', …' : ''} ${found.length === 1 ? 'is' : 'are'} there already; nothing was added. ` +
      `One more token for a device: npx fleetbridge credentials add --device ${quoted(found[0] as string)}`,
  )
}

/** For a shell. */
export function quoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}
