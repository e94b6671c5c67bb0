import { takenNames } from './aliases.ts'
import { writeAudit } from './audit.ts'
import { type Change, type Client, inTransaction } from './change.ts'
import { checkDeviceId } from './names.ts'
import { tenantNumber } from './tenants.ts'

/**
 * Makes those that are neither there nor another name of one that is; without credentials, for whoever speaks for them.
 * @param devices at most some thousands
 * @returns how many were made
 */
export async function ensureDevices(
  client: Client,
  by: Change,
  tenant: string,
  devices: readonly string[],
): Promise<number> {
  for (const device of devices) checkDeviceId(device)
  return await inTransaction(client, async () => {
    const tenantId = await tenantNumber(client, by, tenant, 'FOR SHARE')
    const taken = await takenNames(client, tenantId, devices)
    const { rows } = await client.query<{ device: string }>(
      `INSERT INTO device (tenant_id, external_id) SELECT $1, id FROM unnest($2::text[]) AS given (id) ORDER BY id
       ON CONFLICT (tenant_id, external_id) DO NOTHING RETURNING external_id AS device`,
      [tenantId, devices.filter((device) => !taken.has(device))],
    )
    await writeAudit(
      client,
      by,
      'device.add',
      rows.map(({ device }) => ({ tenant, subject: device, details: { import: true } })),
    )
    return rows.length
  })
}
