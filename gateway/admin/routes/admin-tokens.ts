import Type from 'typebox'
import { addAdminToken, listAdminTokens, revokeAdminToken } from '../registry/admin-tokens.ts'
import { expiryOf } from '../registry/times.ts'
import { adminRoute } from '../route.ts'
import { credentialId, nullable, role, strict, tenantName, when } from '../schemas.ts'

export const adminTokenRoutes = [
  adminRoute({
    method: 'GET',
    path: '/whoami',
    role: 'viewer',
    tag: 'admin tokens',
    summary: 'Whose token this is',
    status: 200,
    ofTenant: true,
    response: Type.Object({ name: Type.String(), role, tenant: Type.Optional(Type.String()) }),
    async handle({ login: { name, role, tenant } }) {
      return { name, role, ...(tenant !== undefined && { tenant }) }
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
          tenant: nullable('null: it sees all'),
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
    body: strict({
      name: Type.String({ pattern: '^[A-Za-z0-9_@.-]{1,64}$' }),
      role,
      expires: Type.Optional(when),
      tenant: Type.Optional(tenantName),
    }),
    status: 201,
    response: Type.Object({ id: Type.String(), name: Type.String(), role, token: Type.String() }),
    async handle({ client, by, body: { name, role, expires, tenant } }) {
      return await addAdminToken(client, by, {
        name,
        role,
        tenant,
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
