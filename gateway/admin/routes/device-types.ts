import Type from 'typebox'
import {
  assignDeviceType,
  listDeviceTypes,
  removeDeviceType,
  setDeviceType,
  showDeviceType,
  type TypeRow,
} from '../registry/device-types.ts'
import { adminRoute } from '../route.ts'
import { deviceId, shortText, strict, tenantName, tenantOfQuery } from '../schemas.ts'

const tag = 'device types'
const params = strict({ type: shortText })
const ofTenant = strict({ tenant: tenantOfQuery })
const contract = Type.Union([Type.Record(Type.String(), Type.Unknown()), Type.Null()], {
  description: 'docs/contracts.md',
})
const silentAfterSeconds = Type.Union([Type.Integer({ minimum: 0, maximum: 2_000_000_000 }), Type.Null()], {
  description: 'how long its devices may be still before they are silent; null: learnt for each; 0: for ever',
})
const row = Type.Object({
  type: Type.String(),
  identity: Type.String({
    description: 'value: equal readings of one instant are one; message: they are as many as messages',
  }),
  mode: Type.String({ description: 'off, warn, park' }),
  devices: Type.Integer(),
  contract,
  silentAfterSeconds,
})
const shown = ({ contract, ...type }: TypeRow) => ({ ...type, contract: contract as Record<string, unknown> | null })

export const deviceTypeRoutes = [
  adminRoute({
    method: 'GET',
    path: '/device-types',
    ofTenant: true,
    role: 'viewer',
    tag,
    summary: 'Device types that have rules',
    query: ofTenant,
    status: 200,
    response: Type.Object({ deviceTypes: Type.Array(row) }),
    async handle({ client, query: { tenant = 'default' } }) {
      return { deviceTypes: (await listDeviceTypes(client, tenant)).map(shown) }
    },
  }),
  adminRoute({
    method: 'GET',
    path: '/device-types/:type',
    ofTenant: true,
    role: 'viewer',
    tag,
    summary: 'A device type with its contract',
    params,
    query: ofTenant,
    status: 200,
    response: row,
    async handle({ client, params: { type }, query: { tenant = 'default' } }) {
      return shown(await showDeviceType(client, tenant, type))
    },
  }),
  adminRoute({
    method: 'POST',
    path: '/device-types/:type',
    role: 'operator',
    tag,
    summary: 'Set what holds for a device type; what is absent stays. Every gateway knows it within 2 s',
    params,
    body: strict({
      tenant: Type.Optional(tenantName),
      identity: Type.Optional(Type.Enum(['value', 'message'])),
      mode: Type.Optional(Type.Enum(['off', 'warn', 'park'])),
      contract: Type.Optional(contract),
      silentAfterSeconds: Type.Optional(silentAfterSeconds),
    }),
    status: 200,
    response: row,
    async handle({ client, by, params: { type }, body: { tenant = 'default', ...change } }) {
      return shown(await setDeviceType(client, by, { tenant, type, ...(change as object) }))
    },
  }),
  adminRoute({
    method: 'DELETE',
    path: '/device-types/:type',
    role: 'admin',
    tag,
    summary: 'Remove the rules of a device type; its devices keep its name',
    params,
    query: ofTenant,
    status: 200,
    response: Type.Object({ type: Type.String() }),
    async handle({ client, by, params: { type }, query: { tenant = 'default' } }) {
      await removeDeviceType(client, by, tenant, type)
      return { type }
    },
  }),
  adminRoute({
    method: 'POST',
    path: '/device-types/:type/assign',
    role: 'operator',
    tag,
    summary: 'Say of devices that they are of this type, all or none',
    params,
    body: strict({ tenant: Type.Optional(tenantName), devices: Type.Array(deviceId, { minItems: 1, maxItems: 1000 }) }),
    status: 200,
    response: Type.Object({ changed: Type.Integer() }),
    async handle({ client, by, params: { type }, body: { tenant = 'default', devices } }) {
      return { changed: await assignDeviceType(client, by, { tenant, type, devices }) }
    },
  }),
]
