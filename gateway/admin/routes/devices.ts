import { Readable } from 'node:stream'
import Type from 'typebox'
import { changeAliases, maxAliases } from '../registry/aliases.ts'
import { readDeviceCsv } from '../registry/device-csv.ts'
import { addDevices, changeStatus, listDevices, showDevice } from '../registry/devices.ts'
import { type ImportedDevice, importBatch } from '../registry/import-devices.ts'
import { durationMs } from '../registry/times.ts'
import { adminRoute } from '../route.ts'
import {
  credentialRow,
  deviceId,
  deviceRow,
  limit,
  limitOf,
  nullable,
  overlap,
  shortText,
  strict,
  tenantName,
  tenantOfQuery,
} from '../schemas.ts'

const tag = 'devices'
const params = strict({ device: deviceId })
const ofTenant = strict({ tenant: tenantOfQuery })
const aliasNames = Type.Array(deviceId, { maxItems: maxAliases })
const issued = Type.Object({ tenant: Type.String(), device: Type.String(), token: Type.String() })

export const deviceRoutes = [
  adminRoute({
    method: 'GET',
    path: '/devices',
    ofTenant: true,
    role: 'viewer',
    tag,
    summary: 'Devices in the order of their ids; `next` is the `after` of the next page, null at the end',
    query: strict({
      tenant: tenantOfQuery,
      prefix: Type.Optional(Type.String({ minLength: 1, maxLength: 128 })),
      status: Type.Optional(
        Type.Enum(['enabled', 'disabled', 'removed', 'all'], { description: 'all but the removed ones when absent' }),
      ),
      after: Type.Optional(deviceId),
      limit,
    }),
    status: 200,
    response: Type.Object({ devices: Type.Array(deviceRow), next: nullable() }),
    async handle({ client, query: { tenant = 'default', prefix, status, after, limit } }) {
      const rows = await listDevices(client, { tenant, prefix, after, limit: limitOf(limit) + 1, status })
      const devices = rows.slice(0, limitOf(limit))
      return { devices, next: rows.length > devices.length ? (devices.at(-1)?.device ?? null) : null }
    },
  }),
  adminRoute({
    method: 'POST',
    path: '/devices',
    role: 'operator',
    tag,
    summary: 'Add devices, all or none; their tokens are shown this once',
    body: strict({
      tenant: Type.Optional(tenantName),
      devices: Type.Array(
        strict({
          device: deviceId,
          type: Type.Optional(shortText),
          site: Type.Optional(shortText),
          aliases: Type.Optional(aliasNames),
        }),
        { minItems: 1, maxItems: 1000 },
      ),
    }),
    status: 201,
    response: Type.Object({ devices: Type.Array(Type.Object({ device: Type.String(), token: Type.String() })) }),
    async handle({ client, by, body: { tenant = 'default', devices } }) {
      return { devices: await addDevices(client, by, tenant, devices) }
    },
  }),
  adminRoute({
    method: 'POST',
    path: '/devices/import',
    role: 'operator',
    tag,
    summary:
      'Add devices from a CSV with the columns device[,type,site,tenant,aliases]; safe to repeat. At most 1 MiB: send a larger file in parts',
    query: strict({
      tenant: tenantOfQuery,
      renew: Type.Optional(
        Type.Literal('true', {
          description: 'new tokens for devices that are there; their old ones end after the overlap',
        }),
      ),
      overlap,
    }),
    consumes: 'text/csv',
    body: Type.String(),
    status: 200,
    response: Type.Object({
      added: Type.Array(issued),
      renewed: Type.Array(issued),
      skipped: Type.Integer({ description: 'were there already' }),
      rejected: Type.Array(Type.Object({ line: Type.Integer(), device: Type.String(), reason: Type.String() })),
    }),
    async handle({ client, by, body, query: { tenant = 'default', renew, overlap = '24h' } }) {
      const added: ImportedDevice[] = []
      const renewed: ImportedDevice[] = []
      const rejected: { line: number; device: string; reason: string }[] = []
      let skipped = 0
      const csv = await readDeviceCsv(Readable.from([body]), tenant)
      for await (const { rows, rejected: bad } of csv.batches) {
        const options = { renew: renew === 'true', overlapMs: durationMs(overlap, 'the overlap') }
        const batch = await importBatch(client, by, rows, options)
        added.push(...batch.added)
        renewed.push(...batch.renewed)
        rejected.push(...bad, ...batch.rejected)
        skipped += batch.skipped
      }
      return { added, renewed, skipped, rejected: rejected.sort((one, other) => one.line - other.line) }
    },
  }),
  adminRoute({
    method: 'GET',
    path: '/devices/:device',
    ofTenant: true,
    role: 'viewer',
    tag,
    summary: 'A device with its credentials',
    params,
    query: ofTenant,
    status: 200,
    response: Type.Object({
      ...deviceRow.properties,
      tenant: Type.String(),
      attributes: Type.Record(Type.String(), Type.Unknown()),
      aliases: Type.Array(Type.String()),
      credentials: Type.Array(credentialRow),
    }),
    async handle({ client, params: { device }, query: { tenant = 'default' } }) {
      return await showDevice(client, tenant, device)
    },
  }),
  adminRoute({
    method: 'POST',
    path: '/devices/:device/aliases',
    role: 'operator',
    tag,
    summary: 'Give a device these other names, and no others; its messages are found by them a moment later',
    params,
    query: ofTenant,
    body: strict({ aliases: aliasNames }),
    status: 200,
    response: Type.Object({ aliases: Type.Array(Type.String()) }),
    async handle({ client, by, params: { device }, query: { tenant = 'default' }, body: { aliases } }) {
      return { aliases: [...(await changeAliases(client, by, { tenant, device, change: () => aliases }))] }
    },
  }),
  ...(
    [
      ['POST', '/devices/:device/disable', 'disabled', 'operator', 'Disable a device; its connections end within 2 s'],
      ['POST', '/devices/:device/enable', 'enabled', 'operator', 'Enable a disabled device'],
      ['DELETE', '/devices/:device', 'removed', 'admin', 'Remove a device for good: its id is never given to another'],
    ] as const
  ).map(([method, path, status, role, summary]) =>
    adminRoute({
      method,
      path,
      role,
      tag,
      summary,
      params,
      query: ofTenant,
      status: 200,
      response: Type.Object({ changed: Type.Boolean({ description: 'false: it was so already' }) }),
      async handle({ client, by, params: { device }, query: { tenant = 'default' } }) {
        const changed = await changeStatus(client, by, { tenant, devices: [device], status })
        return { changed: changed.length > 0 }
      },
    }),
  ),
]
