import Type from 'typebox'
import { showDevice } from '../registry/devices.ts'
import { listLimits, setLimit, unsetLimit } from '../registry/limits.ts'
import { conflict } from '../registry/refusal.ts'
import { adminRoute } from '../route.ts'
import { deviceId, limit, limitOf, nullable, shortText, strict, tenantName, tenantOfQuery } from '../schemas.ts'

const tag = 'limits'
const setting = Type.String({
  minLength: 1,
  maxLength: 40,
  description: 'as in the configuration: device, fleetBytes, …',
})
const windows = Type.String({ minLength: 1, maxLength: 200, description: '100:1,2000:60, or none' })
const scope = {
  device: Type.Optional(deviceId),
  type: Type.Optional(shortText),
}

export const limitRoutes = [
  adminRoute({
    method: 'GET',
    path: '/limits',
    ofTenant: true,
    role: 'viewer',
    tag,
    summary: 'Limits of a tenant that are other than the configuration says',
    query: strict({ tenant: tenantOfQuery, limit }),
    status: 200,
    response: Type.Object({
      limits: Type.Array(
        Type.Object({
          tenant: Type.String(),
          device: nullable(),
          type: nullable(),
          setting: Type.String(),
          windows: Type.String(),
          changed: Type.String(),
        }),
      ),
    }),
    async handle({ client, query: { tenant = 'default', limit } }) {
      return { limits: await listLimits(client, tenant, limitOf(limit)) }
    },
  }),
  adminRoute({
    method: 'POST',
    path: '/limits',
    role: 'operator',
    tag,
    summary: 'Set a limit for a device, a device type or a tenant; every gateway knows it within 2 s',
    body: strict({ tenant: Type.Optional(tenantName), ...scope, setting, windows }),
    status: 200,
    response: Type.Object({ changed: Type.Boolean({ description: 'false: it was so already' }) }),
    async handle({ client, by, body: { tenant = 'default', device, type, setting, windows } }) {
      return { changed: await setLimit(client, by, { tenant, device, type }, { setting, windows }) }
    },
  }),
  adminRoute({
    method: 'DELETE',
    path: '/limits',
    role: 'operator',
    tag,
    summary: 'Take such a limit away: the wider one, or the configuration, holds again',
    query: strict({ tenant: tenantOfQuery, ...scope, setting }),
    status: 200,
    response: Type.Object({ changed: Type.Boolean({ description: 'false: there was none' }) }),
    async handle({ client, by, query: { tenant = 'default', device, type, setting } }) {
      return { changed: await unsetLimit(client, by, { tenant, device, type }, setting) }
    },
  }),
  adminRoute({
    method: 'GET',
    path: '/devices/:device/limits',
    ofTenant: true,
    role: 'viewer',
    tag,
    summary: 'Which limits hold for a device, where each was set, and what is left of it',
    params: strict({ device: deviceId }),
    query: strict({ tenant: tenantOfQuery }),
    status: 200,
    response: Type.Object({
      tenant: Type.String(),
      device: Type.String(),
      limits: Type.Array(
        Type.Object({
          limit: Type.String({ description: 'its name in answers and metrics' }),
          setting: Type.String(),
          windows: Type.String(),
          from: Type.String({ description: 'device, type, tenant, configuration' }),
          levels: Type.Array(
            Type.Object({
              burst: Type.Integer(),
              seconds: Type.Integer(),
              left: Type.Number({ description: 'could be spent now' }),
              resetMs: Type.Number({ description: 'until it is full again' }),
            }),
          ),
        }),
      ),
    }),
    async handle({ client, limits, params: { device }, query: { tenant = 'default' } }) {
      if (limits === undefined) throw conflict('there is no gateway in this process')
      const { fleet } = await showDevice(client, tenant, device)
      return { tenant, device, limits: [...(await limits.show(tenant, device, fleet))] }
    },
  }),
]
