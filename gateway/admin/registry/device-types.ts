import { type ContractDocument, type ContractMode, faultOfContract } from '../../normalize/contract.ts'
import { writeAudit } from './audit.ts'
import { type Change, type Client, inTransaction } from './change.ts'
import { invalid, missing, named } from './refusal.ts'
import { tenantNumber } from './tenants.ts'

export interface TypeRow {
  readonly type: string
  readonly identity: 'value' | 'message'
  readonly mode: ContractMode
  /** Its devices that are not removed. */
  readonly devices: number
  readonly contract: ContractDocument | null
  /** How long its devices may be still before they are silent; null: learnt for each; 0: for ever. */
  readonly silentAfterSeconds: number | null
}

/** What is absent stays as it was; a new type begins with identity value, mode off and no contract. */
export interface TypeChange {
  readonly tenant: string
  readonly type: string
  readonly identity?: 'value' | 'message' | undefined
  readonly mode?: ContractMode | undefined
  readonly contract?: unknown
  readonly silentAfterSeconds?: number | null | undefined
}

const typeSql = `SELECT y.name AS type, y.identity, y.contract_mode AS mode, y.contract, y.silent_after_seconds AS "silentAfterSeconds",
    (SELECT count(*)::int FROM device d WHERE d.tenant_id = y.tenant_id AND d.type = y.name AND d.status <> 'removed') AS devices
  FROM device_type y JOIN tenant t ON t.id = y.tenant_id WHERE t.name = $1`

export async function listDeviceTypes(client: Client, tenant: string): Promise<TypeRow[]> {
  return (await client.query<TypeRow>(`${typeSql} ORDER BY y.name`, [tenant])).rows
}

/** @throws BridgeError BRIDGE_USAGE when it is not there */
export async function showDeviceType(client: Client, tenant: string, type: string): Promise<TypeRow> {
  const { rows } = await client.query<TypeRow>(`${typeSql} AND y.name = $2`, [tenant, type])
  const [found] = rows
  if (found === undefined)
    throw missing(`the tenant ${tenant} has no rules for the device type ${JSON.stringify(type)}`)
  return found
}

/** @throws BridgeError BRIDGE_USAGE when the contract is none, or the mode needs one */
export async function setDeviceType(client: Client, by: Change, change: TypeChange): Promise<TypeRow> {
  const { tenant, type, identity, mode, contract, silentAfterSeconds } = change
  checkTypeName(type)
  const fault = contract === undefined || contract === null ? undefined : faultOfContract(contract)
  if (fault !== undefined) throw invalid(`the contract is none: ${fault}`)
  return await inTransaction(client, async () => {
    const tenantId = await tenantNumber(client, by, tenant)
    await client.query(
      `INSERT INTO device_type (tenant_id, name, identity, contract_mode, contract, silent_after_seconds)
       VALUES ($1, $2, coalesce($3, 'value'), coalesce($4, 'off'), $5::jsonb, $7::integer)
       ON CONFLICT (tenant_id, name) DO UPDATE SET identity = coalesce($3, device_type.identity),
         contract_mode = coalesce($4, device_type.contract_mode),
         contract = CASE WHEN $6 THEN $5::jsonb ELSE device_type.contract END,
         silent_after_seconds = CASE WHEN $8 THEN $7::integer ELSE device_type.silent_after_seconds END`,
      [
        tenantId,
        type,
        identity ?? null,
        mode ?? null,
        jsonOf(contract),
        contract !== undefined,
        silentAfterSeconds ?? null,
        silentAfterSeconds !== undefined,
      ],
    )
    const row = await showDeviceType(client, tenant, type)
    if (row.mode !== 'off' && row.contract === null)
      throw invalid(`the mode ${row.mode} needs a contract: npx fleetbridge device-types set ${type} --contract FILE`)
    if (silentAfterSeconds !== undefined) await learnAgain(client, tenantId, type)
    const details = {
      identity,
      mode,
      silentAfterSeconds,
      ...(contract !== undefined && { metrics: metricsOf(row.contract) }),
    }
    await writeAudit(client, by, 'device-type.set', [{ tenant, subject: type, details }])
    return row
  })
}

/** The worker looks at its devices anew, soon. */
async function learnAgain(client: Client, tenantId: number, type: string): Promise<void> {
  await client.query(
    `UPDATE device_watch w SET learn_at = clock_timestamp() FROM device d WHERE d.id = w.device_id AND d.tenant_id = $1 AND d.type = $2`,
    [tenantId, type],
  )
}

/** Its devices keep the name of their type. @throws BridgeError BRIDGE_USAGE when it is not there */
export async function removeDeviceType(client: Client, by: Change, tenant: string, type: string): Promise<void> {
  await inTransaction(client, async () => {
    const { rowCount } = await client.query(
      'DELETE FROM device_type USING tenant t WHERE t.id = tenant_id AND t.name = $1 AND device_type.name = $2',
      [tenant, type],
    )
    if (rowCount === 0) throw missing(`the tenant ${tenant} has no rules for the device type ${JSON.stringify(type)}`)
    await writeAudit(client, by, 'device-type.remove', [{ tenant, subject: type }])
  })
}

/** Says of devices of which type they are, all or none. @param type null: of none */
export async function assignDeviceType(
  client: Client,
  by: Change,
  {
    tenant,
    type,
    devices,
  }: { readonly tenant: string; readonly type: string | null; readonly devices: readonly string[] },
): Promise<number> {
  if (type !== null) checkTypeName(type)
  return await inTransaction(client, async () => {
    const { rows } = await client.query<{ device: string }>(
      `UPDATE device SET type = $3 FROM tenant t
       WHERE t.id = tenant_id AND t.name = $1 AND external_id = ANY($2::text[]) AND status <> 'removed' RETURNING external_id AS device`,
      [tenant, devices, type],
    )
    const found = new Set(rows.map(({ device }) => device))
    const lost = devices.filter((device) => !found.has(device))
    if (lost.length > 0) throw missing(`the tenant ${tenant} has no device ${named(lost)}; nothing was changed`)
    await writeAudit(
      client,
      by,
      'device-type.assign',
      rows.map(({ device }) => ({ tenant, subject: device, details: { type } })),
    )
    return rows.length
  })
}

function checkTypeName(type: string): void {
  if (type === '' || type.length > 128 || !type.isWellFormed() || /\p{Cc}/u.test(type))
    throw invalid('the name of a device type has 1 to 128 characters, without control characters')
}

function jsonOf(contract: unknown): string | null {
  if (contract === undefined || contract === null) return null
  const text = JSON.stringify(contract)
  if (/\\u0000|\\ud[89a-f]/i.test(text)) throw invalid('the contract holds U+0000 or half a surrogate pair')
  return text
}

function metricsOf(contract: ContractDocument | null): number {
  return contract === null ? 0 : Object.keys(contract.metrics).length
}
