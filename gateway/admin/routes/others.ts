import Type from 'typebox'
import { addAdminToken, listAdminTokens, revokeAdminToken } from '../registry/admin-tokens.ts'
import { listAudit } from '../registry/audit.ts'
import { addTenant, listTenants, removeTenant } from '../registry/tenants.ts'
import { expiryOf } from '../registry/times.ts'
import { adminRoute } from '../route.ts'
import { credentialId, limit, limitOf, nullable, role, shortText, strict, tenantName, when } from '../schemas.ts'

export const tenantRoutes = [
  adminRoute({
    method: 'GET',
    path: '/tenants',
    role: 'viewer',
    tag: 'tenants',
    summary: 'All tenants',
    status: 200,
    response: Type.Object({
      tenants: Type.Array(Type.Object({ tenant: Type.String(), devices: Type.Integer(), created: Type.String() })),
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

export const auditRoutes = [
  adminRoute({
    method: 'GET',
    path: '/audit',
    role: 'viewer',
    tag: 'audit',
    summary: 'Who changed what, the newest first; `next` is the `before` of the next page, null at the end',
    query: strict({
      tenant: Type.Optional(tenantName),
      subject: Type.Optional(shortText),
      action: Type.Optional(Type.String({ pattern: '^[a-z-]{1,20}\\.[a-z-]{1,20}$', description: 'device.add' })),
      before: Type.Optional(Type.String({ pattern: '^[1-9][0-9]{0,14}$' })),
      limit,
    }),
    status: 200,
    response: Type.Object({
      audit: Type.Array(
        Type.Object({
          id: Type.Integer(),
          at: Type.String(),
          actor: Type.String(),
          action: Type.String(),
          tenant: nullable(),
          subject: nullable(),
          details: Type.Record(Type.String(), Type.Unknown()),
        }),
      ),
      next: nullable(),
    }),
    async handle({ client, query: { limit, before, ...filter } }) {
      const most = limitOf(limit)
      const rows = await listAudit(client, {
        ...filter,
        limit: most + 1,
        ...(before !== undefined && { before: Number(before) }),
      })
      const audit = rows.slice(0, most)
      return { audit, next: rows.length > audit.length ? String(audit.at(-1)?.id) : null }
    },
  }),
]

export const adminTokenRoutes = [
  adminRoute({
    method: 'GET',
    path: '/whoami',
    role: 'viewer',
    tag: 'admin tokens',
    summary: 'Whose token this is',
    status: 200,
    response: Type.Object({ name: Type.String(), role }),
    async handle({ login }) {
      return login
    },
  }),
  adminRoute({
    method: 'GET',
    path: '/admin-tokens',
    role: 'admin',
    tag: 'admin tokens',
    summary: 'Tokens of this API, never their secrets',
    status: 200,
    response: Type.Object({
      adminTokens: Type.Array(
        Type.Object({
          id: Type.String(),
          name: Type.String(),
          role,
          live: Type.Boolean(),
          created: Type.String(),
          expires: nullable(),
          revoked: nullable(),
        }),
      ),
    }),
    async handle({ client }) {
      return { adminTokens: await listAdminTokens(client) }
    },
  }),
  adminRoute({
    method: 'POST',
    path: '/admin-tokens',
    role: 'admin',
    tag: 'admin tokens',
    summary: 'Add a token of this API, which is shown this once',
    body: strict({ name: Type.String({ pattern: '^[A-Za-z0-9_@.-]{1,64}$' }), role, expires: Type.Optional(when) }),
    status: 201,
    response: Type.Object({ id: Type.String(), name: Type.String(), role, token: Type.String() }),
    async handle({ client, by, body: { name, role, expires } }) {
      return await addAdminToken(client, by, {
        name,
        role,
        ...(expires !== undefined && { expires: expiryOf(expires) }),
      })
    },
  }),
  adminRoute({
    method: 'POST',
    path: '/admin-tokens/:id/revoke',
    role: 'admin',
    tag: 'admin tokens',
    summary: 'End a token of this API, within a second or two',
    params: strict({ id: credentialId }),
    status: 200,
    response: Type.Object({ revoked: Type.Boolean({ description: 'false: it was before' }) }),
    async handle({ client, by, params: { id } }) {
      return { revoked: await revokeAdminToken(client, by, id) }
    },
  }),
]
