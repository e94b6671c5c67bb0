import Type from 'typebox'
import { addTenant, listTenants, removeTenant } from '../registry/tenants.ts'
import { adminRoute } from '../route.ts'
import { strict, tenantName } from '../schemas.ts'

export const tenantRoutes = [
  adminRoute({
    method: 'GET',
    path: '/tenants',
    role: 'viewer',
    tag: 'tenants',
    summary: 'All tenants',
    status: 200,
    response: Type.Object({
      tenants: Type.Array(
        Type.Object({
          tenant: Type.String(),
          devices: Type.Integer(),
          created: Type.String(),
          retentionDays: Type.Union([Type.Integer(), Type.Null()]),
        }),
      ),
    }),
    async handle({ client }) {
      return { tenants: await listTenants(client) }
    },
  }),
  adminRoute({
    method: 'POST',
    path: '/tenants',
    role: 'admin',
    tag: 'tenants',
    summary: 'Add a tenant',
    body: strict({ tenant: tenantName }),
    status: 201,
    response: Type.Object({ tenant: Type.String() }),
    async handle({ client, by, body: { tenant } }) {
      await addTenant(client, by, tenant)
      return { tenant }
    },
  }),
  adminRoute({
    method: 'DELETE',
    path: '/tenants/:tenant',
    role: 'admin',
    tag: 'tenants',
    summary: 'Remove a tenant whose devices are all removed; its readings stay',
    params: strict({ tenant: tenantName }),
    status: 200,
    response: Type.Object({ tenant: Type.String() }),
    async handle({ client, by, params: { tenant } }) {
      await removeTenant(client, by, tenant)
      return { tenant }
    },
  }),
]
