import { userInfo } from 'node:os'
import type pg from 'pg'
import type { Change } from '#gateway/admin/registry/change.ts'
import * as credentials from '#gateway/admin/registry/credentials.ts'
import * as devices from '#gateway/admin/registry/devices.ts'
import * as kept from '#gateway/admin/registry/kept-device.ts'

export type { NewToken } from '#gateway/admin/registry/devices.ts'
export { checkDeviceId } from '#gateway/admin/registry/names.ts'
export { hashOf, newToken } from '#gateway/admin/registry/tokens.ts'
export { quoted } from '#platform/shell-word.ts'

/** The registry's changes as the command line makes them: under the user's name, and a tenant that is new is made on the way. */
export const byUser: Change = { actor: `cli:${userName()}`, makesTenants: true }

/** A user id without a name is usual in containers. */
function userName(): string {
  try {
    return userInfo().username
  } catch {
    return String(process.getuid?.() ?? 'unknown')
  }
}

/** What is said of new devices beside their ids. */
export interface NewDeviceDetails {
  readonly type?: string | undefined
  /** Of the one device. */
  readonly aliases?: readonly string[] | undefined
}

/** @throws BridgeError BRIDGE_USAGE when an id is not one, or there already */
export async function addDevices(
  client: pg.Client,
  tenant: string,
  ids: readonly string[],
  more: NewDeviceDetails = {},
): Promise<devices.NewToken[]> {
  return await devices.addDevices(
    client,
    byUser,
    tenant,
    ids.map((device) => ({ device, ...more })),
  )
}

/**
 * Devices whose firmware publishes to topics of its own: with a fleet credential instead of a device's.
 * @throws BridgeError BRIDGE_USAGE when an id is not one, or there already
 */
export async function addFleets(
  client: pg.Client,
  wanted: {
    readonly tenant: string
    readonly ids: readonly string[]
    /** It speaks for itself alone. */
    readonly isOwn: boolean
  } & NewDeviceDetails,
): Promise<devices.NewToken[]> {
  const { tenant, ids, isOwn, ...more } = wanted
  await devices.addDevices(
    client,
    byUser,
    tenant,
    ids.map((device) => ({ device, ...more })),
  )
  const made: devices.NewToken[] = []
  for (const device of ids) {
    const pattern = isOwn ? device : undefined
    // Only its own way of speaking: the token that came with the device is shown to nobody.
    await credentials.revokeCredentials(client, byUser, { tenant, device })
    made.push(await addFleetCredential(client, { tenant, name: device, pattern }))
  }
  return made
}

/** One more token for a device that is there. @throws BridgeError BRIDGE_USAGE when it is not */
export async function addCredential(client: pg.Client, tenant: string, device: string): Promise<devices.NewToken> {
  const proof = { kind: 'token' } as const
  return await withToken(client, { tenant, device, proof, role: 'device', makesDevice: false })
}

/** A fleet credential speaks for every device that its pattern covers; it is a device too, made when it is not there. */
export async function addFleetCredential(
  client: pg.Client,
  { tenant, name, pattern }: { tenant: string; name: string; pattern: string | undefined },
): Promise<devices.NewToken> {
  const proof = { kind: 'token' } as const
  return await withToken(client, { tenant, device: name, proof, role: 'fleet', pattern, name, makesDevice: true })
}

async function withToken(client: pg.Client, wanted: credentials.NewCredential): Promise<devices.NewToken> {
  const { device, token } = await credentials.addCredential(client, byUser, wanted)
  return { device, token: token as string }
}

/** Makes the device live with this very token; false when the token was revoked or expired. */
export async function keepDevice(client: pg.Client, device: string, token: string): Promise<boolean> {
  return await kept.keepDevice(client, byUser, { tenant: 'default', device, token })
}

export async function listDevices(client: pg.Client, tenant: string, limit: number): Promise<devices.DeviceRow[]> {
  return await devices.listDevices(client, { tenant, limit })
}
