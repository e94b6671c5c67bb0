import { quoted } from '#platform/shell-word.ts'
import { faultOfAliases, takenNames, takenWords } from './aliases.ts'
import { writeAudit } from './audit.ts'
import { type Change, type Client, inTransaction, isoTime } from './change.ts'
import { type CredentialRow, listCredentials } from './credentials.ts'
import { noDevice, wasRemoved } from './device-lock.ts'
import { checkDeviceId, checkTenantName, checkText } from './names.ts'
import { conflict, invalid, named } from './refusal.ts'
import { tenantNumber } from './tenants.ts'
import { hashOf, newToken } from './tokens.ts'

export interface NewDevice {
  readonly device: string
  readonly type?: string | null | undefined
  readonly site?: string | null | undefined
  /** Other names under which its messages come. */
  readonly aliases?: readonly string[] | undefined
}

export interface NewToken {
  readonly device: string
  readonly token: string
}

/**
 * Adds devices with a token each, all or none, in one statement: 500 cost about as much as one.
 * @throws BridgeError BRIDGE_USAGE when an id is not one, is there already, or was removed
 */
export async function addDevices(
  client: Client,
  by: Change,
  tenant: string,
  devices: readonly NewDevice[],
): Promise<NewToken[]> {
  const ids = devices.map(({ device }) => device)
  for (const { device, type, site, aliases } of devices) {
    checkDeviceId(device)
    checkText('type', type)
    checkText('site', site)
    const fault = aliases === undefined ? undefined : faultOfAliases(device, aliases)
    if (fault !== undefined) throw invalid(fault)
  }
  if (new Set(ids).size !== ids.length) throw invalid('the same device is named twice')
  const aliases = devices.flatMap((device) => device.aliases ?? [])
  const names = [...ids, ...aliases]
  if (new Set(names).size !== names.length) throw invalid('the same alias is given twice, or is the id of a device')
  const made = ids.map((device) => ({ device, token: newToken() }))
  return await inTransaction(client, async () => {
    const tenantId = await tenantNumber(client, by, tenant, aliases.length > 0 ? 'FOR UPDATE' : 'FOR SHARE')
    const { rows } = await client.query<{ device: string; removed: boolean }>(
      `SELECT external_id AS device, status = 'removed' AS removed FROM device
       WHERE tenant_id = $1 AND external_id = ANY($2) ORDER BY status = 'removed' DESC, external_id LIMIT 4`,
      [tenantId, ids],
    )
    if (rows.length > 0) throw existing(rows)
    const taken = await takenNames(client, tenantId, names)
    for (const name of names) {
      const other = taken.get(name)
      if (other !== undefined) throw conflict(`${takenWords(name, other)}; nothing was added`)
    }
    await client.query(
      `WITH given AS (SELECT * FROM unnest($2::text[], $3::text[], $4::text[], $5::bytea[], $6::jsonb[]) AS given (id, type, site, hash, aliases)),
       added AS (
         INSERT INTO device (tenant_id, external_id, type, site, aliases)
         SELECT $1, id, type, site, ARRAY(SELECT jsonb_array_elements_text(aliases)) FROM given RETURNING id, external_id
       )
       INSERT INTO credential (device_id, secret_hash)
       SELECT added.id, given.hash FROM added JOIN given ON given.id = added.external_id`,
      [
        tenantId,
        ids,
        devices.map(({ type }) => type ?? null),
        devices.map(({ site }) => site ?? null),
        made.map(({ token }) => hashOf(token)),
        devices.map(({ aliases }) => JSON.stringify(aliases ?? [])),
      ],
    )
    await writeAudit(client, by, 'device.add', auditOf(tenant, ids))
    return made
  })
}

export type DeviceStatus = 'enabled' | 'disabled' | 'removed'

export interface DeviceRow {
  readonly device: string
  readonly status: DeviceStatus
  /** Live ones. */
  readonly credentials: number
  readonly fleet: boolean
  readonly created: string
  readonly lastReading: string | null
  readonly type: string | null
  readonly site: string | null
}

export interface DeviceFilter {
  readonly tenant: string
  readonly limit: number
  /** Only those that sort after this id: the next page. */
  readonly after?: string | undefined
  readonly prefix?: string | undefined
  /** Absent: all but the removed ones. */
  readonly status?: DeviceStatus | 'all' | undefined
}

const deviceColumns = `external_id AS device, status,
  (SELECT count(*)::int FROM credential WHERE device_id = device.id AND revoked_at IS NULL AND coalesce(expires_at > now(), true)) AS credentials,
  EXISTS (SELECT FROM credential WHERE device_id = device.id AND fleet AND revoked_at IS NULL) AS fleet,
  ${isoTime('device.created_at')} AS created,
  (SELECT to_char(max(event_time) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') FROM latest WHERE device_id = device.id) AS "lastReading",
  type, site`

/** A page of devices in the order of their ids. */
export async function listDevices(
  client: Client,
  { tenant, limit, after, prefix, status }: DeviceFilter,
): Promise<DeviceRow[]> {
  checkTenantName(tenant)
  for (const text of [after, prefix])
    if (text !== undefined && text !== '') checkText('beginning of an id', text.slice(0, 128))
  // The page first: the columns cost look-ups, which only its rows are worth.
  const { rows } = await client.query<DeviceRow>(
    `SELECT ${deviceColumns} FROM (
       SELECT device.* FROM device JOIN tenant ON tenant.id = device.tenant_id
       WHERE tenant.name = $1 AND ($3::text IS NULL OR external_id > $3) AND ($4::text IS NULL OR starts_with(external_id, $4))
         AND CASE $5 WHEN 'all' THEN true WHEN '' THEN status <> 'removed' ELSE status = $5 END
       ORDER BY external_id LIMIT $2
     ) AS device ORDER BY external_id`,
    [tenant, limit, after ?? null, prefix ?? null, status ?? ''],
  )
  return rows
}

export interface DeviceDetails extends DeviceRow {
  readonly tenant: string
  readonly attributes: Record<string, unknown>
  readonly aliases: string[]
}

/** One device with all its credentials, without their hashes. @throws BridgeError BRIDGE_USAGE when it is not there */
export async function showDevice(
  client: Client,
  tenant: string,
  device: string,
): Promise<Omit<DeviceDetails, 'credentials'> & { credentials: CredentialRow[] }> {
  checkTenantName(tenant)
  checkDeviceId(device)
  const { rows } = await client.query<DeviceDetails>(
    `SELECT tenant.name AS tenant, attributes, aliases, ${deviceColumns}
     FROM device JOIN tenant ON tenant.id = device.tenant_id WHERE tenant.name = $1 AND external_id = $2`,
    [tenant, device],
  )
  if (rows[0] === undefined) throw noDevice(tenant, device)
  return { ...rows[0], credentials: await listCredentials(client, { tenant, device, limit: 1000 }) }
}

/**
 * Disables, enables or removes devices, all or none; removing revokes their credentials too. Those that are so already are left as they are.
 * @returns those that were changed
 * @throws BridgeError BRIDGE_USAGE when one is not there, or shall come back after it was removed
 */
export async function changeStatus(
  client: Client,
  by: Change,
  { tenant, devices, status }: { tenant: string; devices: readonly string[]; status: DeviceStatus },
): Promise<string[]> {
  for (const device of devices) checkDeviceId(device)
  return await inTransaction(client, async () => {
    const tenantId = await tenantNumber(client, { ...by, makesTenants: false }, tenant)
    const { rows } = await client.query<{ id: number; device: string; status: DeviceStatus }>(
      `SELECT id, external_id AS device, status FROM device WHERE tenant_id = $1 AND external_id = ANY($2) ORDER BY id FOR NO KEY UPDATE`,
      [tenantId, devices],
    )
    const found = new Set(rows.map(({ device }) => device))
    const absent = devices.find((device) => !found.has(device))
    if (absent !== undefined) throw noDevice(tenant, absent)
    const changed = rows.filter((row) => row.status !== status)
    const gone = changed.filter((row) => row.status === 'removed').map(({ device }) => device)
    if (gone.length > 0) throw wasRemoved(named(gone))
    const numbers = changed.map(({ id }) => id)
    await client.query('UPDATE device SET status = $2 WHERE id = ANY($1)', [numbers, status])
    // Ids are never given to another, but a devEui comes again with the next device of a site.
    if (status === 'removed')
      await client.query(`UPDATE device SET aliases = '{}' WHERE id = ANY($1) AND aliases <> '{}'`, [numbers])
    if (status === 'removed')
      await client.query('UPDATE credential SET revoked_at = now() WHERE device_id = ANY($1) AND revoked_at IS NULL', [
        numbers,
      ])
    const names = changed.map(({ device }) => device)
    await writeAudit(client, by, statusActions[status], auditOf(tenant, names))
    return names
  })
}

const statusActions = { enabled: 'device.enable', disabled: 'device.disable', removed: 'device.remove' } as const

export interface ExportedDevice {
  readonly device: string
  readonly type: string | null
  readonly site: string | null
  readonly tenant: string
  readonly status: DeviceStatus
  readonly created: string
  /** Separated by `;`. */
  readonly aliases: string
}

/** Every device but the removed ones, in pages, so that a fleet of any size takes the memory of one page. */
export async function* exportDevices(client: Client, tenant: string): AsyncGenerator<ExportedDevice[]> {
  checkTenantName(tenant)
  for (let after = 0; ; ) {
    const { rows } = await client.query<ExportedDevice & { id: number }>(
      `SELECT device.id, external_id AS device, type, site, tenant.name AS tenant, status, ${isoTime('device.created_at')} AS created,
         array_to_string(aliases, ';') AS aliases
       FROM device JOIN tenant ON tenant.id = device.tenant_id
       WHERE tenant.name = $1 AND device.id > $2 AND status <> 'removed' ORDER BY device.id LIMIT 1000`,
      [tenant, after],
    )
    if (rows.length === 0) return
    after = (rows.at(-1) as { id: number }).id
    yield rows.map(({ id: _number, ...row }) => row)
  }
}

function auditOf(tenant: string, devices: readonly string[]) {
  return devices.map((subject) => ({ tenant, subject }))
}

function existing(found: readonly { device: string; removed: boolean }[]): Error {
  const removed = found.filter((row) => row.removed).map(({ device }) => device)
  if (removed.length > 0) return wasRemoved(named(removed))
  const names = found.map(({ device }) => device)
  return conflict(
    `${named(names)} ${names.length === 1 ? 'is' : 'are'} there already; nothing was added. ` +
      `One more token for a device: npx fleetbridge credentials add --device ${quoted(names[0] as string)}`,
  )
}
