import Type from 'typebox'
import { listAudit } from '../registry/audit.ts'
import { adminRoute } from '../route.ts'
import { limit, limitOf, nullable, shortText, strict, tenantName } from '../schemas.ts'

export const auditRoutes = [
  adminRoute({
    method: 'GET',
    path: '/audit',
    ofTenant: true,
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
