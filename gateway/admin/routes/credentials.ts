import { randomBytes } from 'node:crypto'
import Type, { type Static } from 'typebox'
import { fingerprintOf, fingerprintOfPem } from '../registry/certificate.ts'
import { addCredential, listCredentials, type Proof, revokeCredentials } from '../registry/credentials.ts'
import { invalid } from '../registry/refusal.ts'
import { rotateToken } from '../registry/rotate-token.ts'
import { durationMs, expiryOf } from '../registry/times.ts'
import { adminRoute } from '../route.ts'
import {
  credentialId,
  credentialRow,
  deviceId,
  limit,
  limitOf,
  nullable,
  overlap,
  strict,
  tenantName,
  tenantOfQuery,
  when,
} from '../schemas.ts'

const tag = 'credentials'
const newCredential = strict({
  tenant: Type.Optional(tenantName),
  device: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 128,
      description: 'must be there for the role device; made for fleet and operator, under a random id when absent',
    }),
  ),
  role: Type.Optional(Type.Enum(['device', 'fleet', 'operator'], { description: 'device when absent' })),
  pattern: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 256,
      description: 'of a fleet credential: site1-*; any device when absent',
    }),
  ),
  kind: Type.Optional(Type.Enum(['token', 'password', 'certificate'], { description: 'token when absent' })),
  password: Type.Optional(Type.String({ minLength: 8, maxLength: 256 })),
  certificate: Type.Optional(Type.String({ maxLength: 65_536, description: 'PEM' })),
  fingerprint: Type.Optional(Type.String({ maxLength: 128, description: 'SHA-256 of a certificate' })),
  expires: Type.Optional(when),
})

export const credentialRoutes = [
  adminRoute({
    method: 'GET',
    path: '/credentials',
    ofTenant: true,
    role: 'viewer',
    tag,
    summary: 'Credentials of a tenant or device, never their secrets; `next` is the `after` of the next page',
    query: strict({
      tenant: tenantOfQuery,
      device: Type.Optional(deviceId),
      live: Type.Optional(Type.Literal('true', { description: 'only those that are neither revoked nor expired' })),
      after: Type.Optional(credentialId),
      limit,
    }),
    status: 200,
    response: Type.Object({ credentials: Type.Array(credentialRow), next: nullable() }),
    async handle({ client, query: { tenant = 'default', device, live, after, limit } }) {
      const filter = { tenant, device, after, live: live === 'true', limit: limitOf(limit) + 1 }
      const rows = await listCredentials(client, filter)
      const credentials = rows.slice(0, limitOf(limit))
      return { credentials, next: rows.length > credentials.length ? (credentials.at(-1)?.id ?? null) : null }
    },
  }),
  adminRoute({
    method: 'POST',
    path: '/credentials',
    role: 'operator',
    tag,
    summary: 'Add a credential; a token is shown this once',
    body: newCredential,
    status: 201,
    response: Type.Object({
      id: Type.String(),
      device: Type.String(),
      kind: Type.String(),
      token: Type.Optional(Type.String()),
    }),
    async handle({ client, by, body }) {
      const { tenant = 'default', role = 'device', device, pattern, expires } = body
      if (role === 'device' && device === undefined) throw invalid('name the device')
      return await addCredential(client, by, {
        tenant,
        device: device ?? `${role}-${randomBytes(4).toString('hex')}`,
        proof: proofOf(body),
        role,
        pattern,
        expires: expires === undefined ? undefined : expiryOf(expires),
        makesDevice: role !== 'device',
      })
    },
  }),
  adminRoute({
    method: 'POST',
    path: '/credentials/rotate',
    role: 'operator',
    tag,
    summary: 'Add a token with the rights of the old ones, which end after the overlap',
    body: strict({
      id: Type.Optional(credentialId),
      tenant: Type.Optional(tenantName),
      device: Type.Optional(deviceId),
      overlap,
      expires: Type.Optional(when),
    }),
    status: 201,
    response: Type.Object({
      id: Type.String(),
      device: Type.String(),
      token: Type.String(),
      replaced: Type.Array(Type.String()),
    }),
    async handle({ client, by, body: { overlap = '24h', expires, ...names } }) {
      return await rotateToken(client, by, {
        of: oneOrAll(names),
        overlapMs: durationMs(overlap, 'the overlap'),
        expires: expires === undefined ? undefined : expiryOf(expires),
      })
    },
  }),
  adminRoute({
    method: 'POST',
    path: '/credentials/revoke',
    role: 'operator',
    tag,
    summary: 'End a credential (id), all of a device, or a certificate of a trusted authority (device, fingerprint)',
    body: strict({
      id: Type.Optional(credentialId),
      tenant: Type.Optional(tenantName),
      device: Type.Optional(deviceId),
      fingerprint: Type.Optional(Type.String({ maxLength: 128 })),
    }),
    status: 200,
    response: Type.Object({ revoked: Type.Integer({ description: 'how many were live' }) }),
    async handle({ client, by, body: { fingerprint, ...names } }) {
      const what = oneOrAll(names)
      if (fingerprint === undefined) return { revoked: await revokeCredentials(client, by, what) }
      if ('id' in what) throw invalid('a fingerprint goes with a device')
      return { revoked: await revokeCredentials(client, by, { ...what, fingerprint: fingerprintOf(fingerprint) }) }
    },
  }),
]

function oneOrAll({ id, tenant, device }: { id?: string; tenant?: string; device?: string }) {
  if (id !== undefined && tenant === undefined && device === undefined) return { id }
  if (id === undefined && device !== undefined) return { tenant: tenant ?? 'default', device }
  throw invalid('name either a credential (id) or a device (device, tenant)')
}

function proofOf({ kind = 'token', password, certificate, fingerprint }: Static<typeof newCredential>): Proof {
  const given = [password, certificate, fingerprint].filter((part) => part !== undefined).length
  if (given !== (kind === 'token' ? 0 : 1))
    throw invalid(
      'a token needs nothing, a password its password, a certificate either certificate (PEM) or fingerprint',
    )
  if (kind === 'password' && password !== undefined) return { kind, password }
  if (kind === 'certificate' && certificate !== undefined) return { kind, fingerprint: fingerprintOfPem(certificate) }
  if (kind === 'certificate' && fingerprint !== undefined) return { kind, fingerprint: fingerprintOf(fingerprint) }
  if (kind === 'token') return { kind }
  throw invalid(`what was given does not go with the kind ${kind}`)
}
