import Type, { type TProperties } from 'typebox'

/** An object that refuses unknown keys: a misspelt one is an error and no silence. */
export function strict<Properties extends TProperties>(properties: Properties) {
  return Type.Object(properties, { additionalProperties: false })
}

export const nullable = (description?: string) =>
  Type.Union([Type.String(), Type.Null()], description === undefined ? {} : { description })

export const tenantName = Type.String({ pattern: '^[a-z0-9-]{1,63}$' })
/** Its finer rules are checked by the registry, whose words say which one is broken. */
export const deviceId = Type.String({ minLength: 1, maxLength: 128 })
export const shortText = Type.String({ minLength: 1, maxLength: 128 })
export const credentialId = Type.String({ pattern: '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' })
export const when = Type.String({
  minLength: 2,
  maxLength: 40,
  description: '90d, 12h, or a time such as 2030-01-31T12:00:00Z',
})
export const overlap = Type.Optional(
  Type.String({
    pattern: '^\\d{1,8}[smhdw]$',
    description: 'how long the old tokens stay good: 24h when absent, 0s ends them at once',
  }),
)
export const role = Type.Enum(['viewer', 'operator', 'admin'])

/** Queries are text, and nothing is coerced. */
export const limit = Type.Optional(
  Type.String({ pattern: '^([1-9][0-9]{0,2}|1000)$', description: '1 to 1000, 100 when absent' }),
)
export const tenantOfQuery = Type.Optional(
  Type.String({ pattern: '^[a-z0-9-]{1,63}$', description: 'default when absent' }),
)

const moment = (description: string) => Type.Optional(Type.String({ minLength: 2, maxLength: 40, description }))
export const range = {
  from: moment('2h ago, or a time such as 2030-01-31T12:00:00Z; a day ago when absent'),
  to: moment('likewise, exclusive; now when absent'),
}
export const prefix = Type.Optional(Type.String({ minLength: 1, maxLength: 128, description: 'of the ids of devices' }))
export const cursor = Type.Optional(
  Type.String({ pattern: '^[A-Za-z0-9_-]{1,1024}$', description: '`next` of the page before' }),
)

export function limitOf(text: string | undefined): number {
  return text === undefined ? 100 : Number(text)
}

export const deviceRow = Type.Object({
  device: Type.String(),
  status: Type.String({ description: 'enabled, disabled, removed' }),
  credentials: Type.Integer({ description: 'live ones' }),
  fleet: Type.Boolean(),
  created: Type.String(),
  lastReading: nullable(),
  type: nullable(),
  site: nullable(),
})

export const credentialRow = Type.Object({
  id: Type.String(),
  tenant: Type.String(),
  device: Type.String(),
  kind: Type.String({ description: 'token, password, certificate' }),
  role: Type.String({ description: 'device, fleet, operator' }),
  pattern: nullable(),
  name: nullable(),
  live: Type.Boolean({ description: 'neither revoked nor expired' }),
  created: Type.String(),
  expires: nullable(),
  revoked: nullable(),
  lastUsed: nullable(),
})
