import { BridgeError } from '#platform/errors.ts'
import { isSetting, type LimitSetting } from '../../rate-limit/limit-overrides.ts'
import { limitsByName, windowsOf } from '../../rate-limit/limits.ts'
import { writeAudit } from './audit.ts'
import { type Change, type Client, inTransaction, isoTime } from './change.ts'
import { lockDevice } from './device-lock.ts'
import { checkDeviceId, checkTenantName, checkText } from './names.ts'
import { invalid } from './refusal.ts'
import { tenantNumber } from './tenants.ts'

/** Whom an override is for: a device, all devices of a type, or with neither the tenant. */
export interface LimitScope {
  readonly tenant: string
  readonly device?: string | undefined
  readonly type?: string | undefined
}

export interface LimitRow {
  readonly tenant: string
  readonly device: string | null
  readonly type: string | null
  readonly setting: string
  readonly windows: string
  readonly changed: string
}

/**
 * Sets a limit for one device, type or tenant; gateways know it within 2 s.
 * @returns false when it was so already
 * @throws BridgeError BRIDGE_USAGE
 */
export async function setLimit(
  client: Client,
  by: Change,
  scope: LimitScope,
  { setting, windows }: { setting: string; windows: string },
): Promise<boolean> {
  checkSetting(scope, setting)
  checkWindows(windows)
  return await inTransaction(client, async () => {
    const owner = await ownerOf(client, by, scope)
    const { rowCount } = await client.query(
      `INSERT INTO limit_override (tenant_id, device_type, device_id, setting, windows) VALUES ($1, $2, $3, $4, $5)
       ON CONFLICT ON CONSTRAINT limit_override_owner_setting_unique DO UPDATE SET windows = excluded.windows
       WHERE limit_override.windows <> excluded.windows`,
      [...owner, setting, windows],
    )
    if (rowCount === 0) return false
    await writeAudit(client, by, 'limit.set', [entryOf(scope, { setting, windows })])
    return true
  })
}

/**
 * Takes an override away, so that the wider one, or the configuration, holds again.
 * @returns false when there was none
 * @throws BridgeError BRIDGE_USAGE
 */
export async function unsetLimit(client: Client, by: Change, scope: LimitScope, setting: string): Promise<boolean> {
  checkSetting(scope, setting)
  return await inTransaction(client, async () => {
    const owner = await ownerOf(client, by, scope)
    const { rowCount } = await client.query(
      `DELETE FROM limit_override WHERE tenant_id = $1 AND device_type IS NOT DISTINCT FROM $2
       AND device_id IS NOT DISTINCT FROM $3::int AND setting = $4`,
      [...owner, setting],
    )
    if (rowCount === 0) return false
    await writeAudit(client, by, 'limit.unset', [entryOf(scope, { setting })])
    return true
  })
}

/** All overrides of a tenant: its own first, then of types, then of devices. @param limit at most so many */
export async function listLimits(client: Client, tenant: string, limit: number): Promise<LimitRow[]> {
  checkTenantName(tenant)
  const { rows } = await client.query<LimitRow>(
    `SELECT t.name AS tenant, d.external_id AS device, l.device_type AS type, l.setting, l.windows,
       ${isoTime('l.updated_at')} AS changed
     FROM limit_override l JOIN tenant t ON t.id = l.tenant_id LEFT JOIN device d ON d.id = l.device_id
     WHERE t.name = $1 ORDER BY d.external_id NULLS FIRST, l.device_type NULLS FIRST, l.setting LIMIT $2`,
    [tenant, limit],
  )
  return rows
}

function checkSetting({ device, type }: LimitScope, setting: string): asserts setting is LimitSetting {
  if (!isSetting(setting))
    throw invalid(
      `there is no limit ${JSON.stringify(setting.slice(0, 40))}. There are: ${limitsByName.map(([name]) => name).join(', ')}`,
    )
  if (device !== undefined && type !== undefined) throw invalid('name a device or a type, not both')
  const owner = limitsByName.find(([name]) => name === setting)?.[2]
  if (owner === 'all') throw invalid(`${setting} is for the whole installation: it stands in the configuration alone`)
  if (owner !== 'device' && owner !== 'fleet' && (device ?? type) !== undefined)
    throw invalid(`${setting} is a limit of the whole tenant: set it without a device or type`)
}

function checkWindows(windows: string): void {
  try {
    if (windows.length <= 200 && windowsOf(windows, 'the limit').length <= 8) return
  } catch (error) {
    if (!(error instanceof BridgeError)) throw error
    throw invalid(error.message, error)
  }
  throw invalid('a limit has at most 8 windows')
}

/** The numbers of tenant, type and device; the device cannot change until the transaction ends. */
async function ownerOf(client: Client, by: Change, { tenant, device, type }: LimitScope) {
  checkText('type', type)
  if (device !== undefined) checkDeviceId(device)
  const tenantId = await tenantNumber(client, { ...by, makesTenants: false }, tenant)
  const deviceId = device === undefined ? null : await lockDevice(client, { tenant, tenantId, device })
  return [tenantId, type ?? null, deviceId] as const
}

function entryOf({ tenant, device, type }: LimitScope, details: Record<string, string>) {
  return { tenant, subject: device ?? type ?? tenant, details: { ...details, ...(type !== undefined && { type }) } }
}
