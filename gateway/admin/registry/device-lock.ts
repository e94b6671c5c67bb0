import { quoted } from '#platform/shell-word.ts'
import { writeAudit } from './audit.ts'
import type { Change, Client } from './change.ts'
import { conflict, missing } from './refusal.ts'

interface Named {
  readonly tenant: string
  readonly tenantId: number
  readonly device: string
}

/** Makes the device where it is not there. @throws BridgeError BRIDGE_USAGE when it is another's alias */
export async function makeDevice(client: Client, by: Change, { tenant, tenantId, device }: Named): Promise<void> {
  const { rows } = await client.query<{ other: string }>(
    `SELECT external_id AS other FROM device WHERE tenant_id = $1 AND aliases <> '{}' AND aliases @> ARRAY[$2::text]`,
    [tenantId, device],
  )
  if (rows[0] !== undefined)
    throw conflict(`${JSON.stringify(device)} is an alias of the device ${JSON.stringify(rows[0].other)} already`)
  const { rowCount } = await client.query(
    'INSERT INTO device (tenant_id, external_id) VALUES ($1, $2) ON CONFLICT DO NOTHING',
    [tenantId, device],
  )
  if (rowCount === 1) await writeAudit(client, by, 'device.add', [{ tenant, subject: device }])
}

/**
 * The device's number; two changes of its credentials wait for each other until the transaction ends.
 * @throws BridgeError BRIDGE_USAGE when it is not there or was removed
 */
export async function lockDevice(client: Client, { tenant, tenantId, device }: Named): Promise<number> {
  const { rows } = await client.query<{ id: number; removed: boolean }>(
    `SELECT id, status = 'removed' AS removed FROM device WHERE tenant_id = $1 AND external_id = $2 FOR NO KEY UPDATE`,
    [tenantId, device],
  )
  const [found] = rows
  if (found === undefined) throw noDevice(tenant, device)
  if (found.removed) throw wasRemoved(JSON.stringify(device))
  return found.id
}

export function noDevice(tenant: string, device: string): Error {
  return missing(
    `the tenant ${tenant} has no device ${JSON.stringify(device)}. Add it: npx fleetbridge devices add ${quoted(device)}`,
  )
}

/** @param devices as they are named to a person */
export function wasRemoved(devices: string): Error {
  return conflict(
    `${devices}: removed, and an id is never given to another, since its readings are still there. Choose another id.`,
  )
}
