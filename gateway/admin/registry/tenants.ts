import { writeAudit } from './audit.ts'
import { type Change, type Client, inTransaction, isoTime } from './change.ts'
import { checkTenantName } from './names.ts'
import { conflict, invalid, missing } from './refusal.ts'

export interface TenantRow {
  readonly tenant: string
  /** That are not removed. */
  readonly devices: number
  readonly created: string
  /** Days that its readings are kept, where that is less than the configuration says. */
  readonly retentionDays: number | null
}

/** @throws BridgeError BRIDGE_USAGE when it is there, or was */
export async function addTenant(client: Client, by: Change, name: string): Promise<void> {
  checkTenantName(name)
  await inTransaction(client, async () => {
    const { rowCount } = await client.query('INSERT INTO tenant (name) VALUES ($1) ON CONFLICT DO NOTHING', [name])
    if (rowCount === 0) {
      await tenantNumber(client, { ...by, makesTenants: false }, name) // throws when it was removed
      throw conflict(`the tenant ${name} is there already`)
    }
    await writeAudit(client, by, 'tenant.add', [{ tenant: name, subject: name }])
  })
}

export async function listTenants(client: Client): Promise<TenantRow[]> {
  const { rows } = await client.query<TenantRow>(
    `SELECT name AS tenant, (SELECT count(*)::int FROM device WHERE tenant_id = tenant.id AND status <> 'removed') AS devices,
       ${isoTime('created_at')} AS created, retention_days AS "retentionDays"
     FROM tenant WHERE removed_at IS NULL ORDER BY name`,
  )
  return rows
}

/**
 * How long its readings are kept, where that is less than the configuration says.
 * @param retention `30d`, or `none` for as configured
 * @throws BridgeError BRIDGE_USAGE
 */
export async function setTenantRetention(
  client: Client,
  by: Change,
  name: string,
  retention: string,
): Promise<number | null> {
  const days =
    retention === 'none' ? null : /^[1-9]\d{0,4}d$/.test(retention) ? Number.parseInt(retention, 10) : undefined
  if (days === undefined)
    throw invalid(`a retention is whole days such as 30d, or none, not ${JSON.stringify(retention.slice(0, 40))}`)
  await inTransaction(client, async () => {
    const id = await tenantNumber(client, { ...by, makesTenants: false }, name, 'FOR UPDATE')
    await client.query('UPDATE tenant SET retention_days = $2 WHERE id = $1', [id, days])
    await writeAudit(client, by, 'tenant.set', [{ tenant: name, subject: name, details: { retentionDays: days } }])
  })
  return days
}

/**
 * Its devices were removed before; their readings stay until the retention takes them, so its name is not used again. One that never had a
 * device leaves nothing behind.
 * @throws BridgeError BRIDGE_USAGE
 */
export async function removeTenant(client: Client, by: Change, name: string): Promise<void> {
  if (name === 'default') throw invalid('the tenant default stays: commands and devices that name none belong to it')
  await inTransaction(client, async () => {
    const id = await tenantNumber(client, { ...by, makesTenants: false }, name, 'FOR UPDATE')
    const { rows } = await client.query<{ kept: number; all: number }>(
      `SELECT count(*) FILTER (WHERE status <> 'removed')::int AS kept, count(*)::int AS all FROM device WHERE tenant_id = $1`,
      [id],
    )
    const { kept, all } = rows[0] as { kept: number; all: number }
    if (kept > 0)
      throw conflict(
        `the tenant ${name} has ${kept} device${kept === 1 ? '' : 's'}. Remove ${kept === 1 ? 'it' : 'them'} first: ` +
          `npx fleetbridge devices remove --tenant ${name} ID… (npx fleetbridge devices list --tenant ${name} names them)`,
      )
    if (all > 0) await client.query('UPDATE tenant SET removed_at = now() WHERE id = $1', [id])
    else await client.query('DELETE FROM tenant WHERE id = $1', [id])
    await writeAudit(client, by, 'tenant.remove', [{ tenant: name, subject: name }])
  })
}

/**
 * The tenant's number; it cannot be removed until the transaction ends.
 * @throws BridgeError BRIDGE_USAGE when it is not there and `by` makes none, or was removed
 */
export async function tenantNumber(
  client: Client,
  by: Change,
  name: string,
  lock: 'FOR SHARE' | 'FOR UPDATE' = 'FOR SHARE',
): Promise<number> {
  checkTenantName(name)
  if (by.makesTenants) {
    const { rowCount } = await client.query('INSERT INTO tenant (name) VALUES ($1) ON CONFLICT DO NOTHING', [name])
    if (rowCount === 1) await writeAudit(client, by, 'tenant.add', [{ tenant: name, subject: name }])
  }
  const { rows } = await client.query<{ id: number; removed: boolean }>(
    `SELECT id, removed_at IS NOT NULL AS removed FROM tenant WHERE name = $1 ${lock}`,
    [name],
  )
  const [found] = rows
  if (found === undefined) throw missing(`there is no tenant ${name}. Add it: npx fleetbridge tenants add ${name}`)
  if (found.removed)
    throw conflict(`the tenant ${name} was removed, and its name is not used again: its readings are still there`)
  return found.id
}
