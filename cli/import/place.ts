import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { addCredential, revokeCredentials } from '#gateway/admin/registry/credentials.ts'
import { ensureDevices } from '#gateway/admin/registry/ensure-devices.ts'
import { loadConfig } from '#platform/config.ts'
import { reachableHost } from '../addresses.ts'
import { withDatabase } from '../database.ts'
import { findDatabase, findInstance } from '../instance.ts'
import { byUser } from '../registry.ts'

/** Where an import goes, and in whose name. */
export interface Place {
  readonly url: string
  readonly tenant: string
  /** Absent when a token was given: then nothing is prepared or counted in the database. */
  readonly databaseUrl: string | undefined
  readonly token: string | undefined
}

/** Readings before it would be parked as too old; undefined: none, or another gateway's settings, which are not known here. */
export function oldestUs(url: string | undefined): number | undefined {
  const kept = /^(\d+)d$/.exec(loadConfig(process.env).retention.reading)?.[1]
  return url !== undefined || kept === undefined ? undefined : (Date.now() - Number(kept) * 86_400_000) * 1000
}

/** @throws BridgeError BRIDGE_NOT_RUNNING when there is neither a token nor a database to make one in */
export function findPlace({
  url,
  token = process.env.BRIDGE_IMPORT_TOKEN,
  tenant,
}: {
  readonly url?: string
  readonly token?: string
  readonly tenant: string
}): Place {
  const config = loadConfig(process.env)
  const running = findInstance(config.dataDir)?.http
  return {
    url: url ?? running ?? `http://${reachableHost(config.http.host)}:${config.http.port}`,
    tenant,
    databaseUrl: token === undefined ? findDatabase(config) : undefined,
    token,
  }
}

/** The device under whose name a fleet credential speaks for all that are imported. */
const importer = 'fleetbridge-import'
/** Longer than any import; one that was killed leaves its credential behind until it goes on, or until then. */
const expiresMs = 7 * 86_400_000
const devicesAtOnce = 1000
/** After which every gateway knows new devices. */
const knownMs = 2000

export async function makeCredential(
  databaseUrl: string,
  { tenant, old }: { readonly tenant: string; readonly old: string | undefined },
): Promise<{ readonly id: string; readonly token: string }> {
  return await withDatabase(databaseUrl, async (client) => {
    if (old !== undefined) await revokeCredentials(client, byUser, { id: old }).catch(() => undefined)
    const { id, token } = await addCredential(client, byUser, {
      tenant,
      device: importer,
      proof: { kind: 'token' },
      role: 'fleet',
      name: importer,
      expires: new Date(Date.now() + expiresMs),
      makesDevice: true,
    })
    return { id, token: token as string }
  })
}

export async function revoke(databaseUrl: string, id: string): Promise<void> {
  await withDatabase(databaseUrl, (client) => revokeCredentials(client, byUser, { id }))
}

/**
 * Makes the devices that are not there, since a fleet credential may bring only some new ones in a minute.
 * @returns how many are new, and how many have a type that tells messages by their names, not by their values
 */
export async function prepareDevices(
  databaseUrl: string,
  tenant: string,
  devices: readonly string[],
): Promise<{ readonly made: number; readonly untold: number }> {
  return await withDatabase(databaseUrl, async (client) => {
    let made = 0
    let untold = 0
    for (let at = 0; at < devices.length; at += devicesAtOnce) {
      const some = devices.slice(at, at + devicesAtOnce)
      made += await ensureDevices(client, byUser, tenant, some)
      untold += await countUntold(client, tenant, some)
    }
    if (made > 0) await sleep(knownMs)
    return { made, untold }
  })
}

async function countUntold(client: pg.Client, tenant: string, devices: readonly string[]): Promise<number> {
  const { rows } = await client.query<{ n: number }>(
    `SELECT count(*)::int AS n FROM device JOIN tenant ON tenant.id = device.tenant_id
     JOIN device_type ON device_type.tenant_id = device.tenant_id AND device_type.name = device.type
     WHERE tenant.name = $1 AND external_id = ANY($2) AND device_type.identity = 'message'`,
    [tenant, devices],
  )
  return rows[0]?.n ?? 0
}

export interface Stored {
  readonly tenant: string
  readonly devices: readonly string[]
  readonly firstUs: number
  readonly lastUs: number
  /** When the import began. */
  readonly since: string
}

/** Naming more devices than this costs more than counting those of others in vain. */
const namedDevices = 20_000
const settledMs = 60_000

/**
 * How many rows of `reading` an import brought, once the worker has written them.
 * @param written whether the worker has written all that was acknowledged
 * @returns undefined when that takes too long
 */
export async function countNew(
  client: pg.Client,
  { tenant, devices, firstUs, lastUs, since }: Stored,
  written: () => Promise<boolean>,
): Promise<number | undefined> {
  await client.query("SET statement_timeout = '60s'")
  const count = async () => {
    const { rows } = await client.query<{ n: number }>(
      `SELECT count(*)::float8 AS n FROM reading JOIN device ON device.id = reading.device_id JOIN tenant ON tenant.id = device.tenant_id
       WHERE tenant.name = $1 AND event_time >= $2 AND event_time <= $3 AND ingest_time >= $4 AND ($5::text[] IS NULL OR external_id = ANY($5))`,
      [
        tenant,
        new Date(Math.floor(firstUs / 1000)),
        new Date(Math.ceil(lastUs / 1000)),
        since,
        devices.length > namedDevices ? null : devices,
      ],
    )
    return rows[0]?.n ?? 0
  }
  const end = performance.now() + settledMs
  try {
    while (!(await written())) {
      if (performance.now() > end) return undefined
      await sleep(500)
    }
    return await count()
  } catch {
    return undefined
  }
}

/** Messages that the worker has settled since the beginning. */
export async function settledMessages(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ n: number }>(
    'SELECT coalesce(sum(stored + duplicate + parked), 0)::float8 AS n FROM ingest_offset',
  )
  return rows[0]?.n ?? 0
}
