import { writeAudit } from './audit.ts'
import { type Change, type Client, inTransaction } from './change.ts'
import { lockDevice } from './device-lock.ts'
import { brokenRule, checkDeviceId } from './names.ts'
import { conflict, invalid } from './refusal.ts'
import { tenantNumber } from './tenants.ts'

/** Other names of one device. */
export const maxAliases = 16

export interface AliasChange {
  readonly tenant: string
  readonly device: string
  /** The names that it shall have, given those that it has. */
  readonly change: (aliases: readonly string[]) => readonly string[]
}

/**
 * Gives a device other names, or takes them away. Gateways know it a moment later.
 * @returns all that it has now
 * @throws BridgeError BRIDGE_USAGE when a name is none, or the id or alias of another device
 */
export async function changeAliases(
  client: Client,
  by: Change,
  { tenant, device, change }: AliasChange,
): Promise<readonly string[]> {
  checkDeviceId(device)
  return await inTransaction(client, async () => {
    const tenantId = await aliasLock(client, { ...by, makesTenants: false }, tenant)
    const id = await lockDevice(client, { tenant, tenantId, device })
    const { rows } = await client.query<{ aliases: string[] }>('SELECT aliases FROM device WHERE id = $1', [id])
    const before = (rows[0] as { aliases: string[] }).aliases
    const after = [...new Set(change(before))]
    const added = after.filter((alias) => !before.includes(alias))
    const removed = before.filter((alias) => !after.includes(alias))
    if (added.length + removed.length === 0) return after
    const fault = faultOfAliases(device, after)
    if (fault !== undefined) throw invalid(fault)
    const taken = await takenNames(client, tenantId, added)
    for (const alias of added) {
      const other = taken.get(alias)
      if (other !== undefined) throw conflict(takenWords(alias, other))
    }
    await client.query('UPDATE device SET aliases = $2 WHERE id = $1', [id, after])
    await writeAudit(client, by, 'device.alias', [{ tenant, subject: device, details: { added, removed } }])
    return after
  })
}

/** The tenant's number, and no device of it is added or named by anybody else until the transaction ends. */
export async function aliasLock(client: Client, by: Change, tenant: string): Promise<number> {
  return await tenantNumber(client, by, tenant, 'FOR UPDATE')
}

/**
 * Which of these names devices have already, as id or alias.
 * @returns the device by the name
 */
export async function takenNames(
  client: Client,
  tenantId: number,
  names: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  if (names.length === 0) return new Map()
  const { rows } = await client.query<{ device: string; aliases: string[] }>(
    `SELECT external_id AS device, '{}'::text[] AS aliases FROM device WHERE tenant_id = $1 AND external_id = ANY($2)
     UNION ALL SELECT external_id, aliases FROM device WHERE tenant_id = $1 AND aliases <> '{}' AND aliases && $2`,
    [tenantId, names],
  )
  const taken = new Map<string, string>()
  for (const { device, aliases } of rows) for (const name of [device, ...aliases]) taken.set(name, device)
  return taken
}

/** What is wrong with the other names of a device, as a sentence; undefined when nothing is. */
export function faultOfAliases(device: string, aliases: readonly string[]): string | undefined {
  if (aliases.length > maxAliases) return `a device has at most ${maxAliases} aliases`
  for (const alias of aliases) {
    const broken = brokenRule(alias)
    if (broken !== undefined) return `the alias ${JSON.stringify(alias.slice(0, 140))} ${broken}`
    if (alias.includes(';')) return `the alias ${JSON.stringify(alias)} holds ;, which separates them in a CSV`
    if (alias === device) return `${JSON.stringify(alias)} is the device's own id, and needs no alias`
  }
  return undefined
}

export function takenWords(name: string, device: string): string {
  if (name === device) return `${JSON.stringify(name)} is a device already`
  return `${JSON.stringify(name)} is an alias of the device ${JSON.stringify(device)} already`
}
