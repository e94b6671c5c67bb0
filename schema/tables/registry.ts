import { sql } from 'drizzle-orm'
import {
  type AnyPgColumn,
  bigint,
  boolean,
  check,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  unique,
  uuid,
} from 'drizzle-orm/pg-core'
import { bytea, identity, timestamptz } from './columns.ts'

export const tenant = pgTable(
  'tenant',
  {
    id: identity().primaryKey(),
    name: text('name').notNull().unique(),
    createdAt: timestamptz('created_at').notNull().defaultNow(),
    /** When it was removed: its devices were before, and its readings stay until the retention takes them. */
    removedAt: timestamptz('removed_at'),
    /** Days that its readings are kept, where that is less than the configuration says; null: as configured. */
    retentionDays: integer('retention_days'),
  },
  (table) => [
    check('tenant_name_check', sql`${table.name} ~ '^[a-z0-9-]{1,63}$'`),
    check('tenant_retention_days_check', sql`${table.retentionDays} between 1 and 99999`),
  ],
)

/** A device is disabled, never deleted: readings carry its number. */
export const device = pgTable(
  'device',
  {
    id: identity().primaryKey(),
    tenantId: integer('tenant_id')
      .notNull()
      .references(() => tenant.id),
    externalId: text('external_id').notNull(),
    /** A removed device is gone for everybody but its readings, and its id is never given to another. */
    status: text('status', { enum: ['enabled', 'disabled', 'removed'] })
      .notNull()
      .default('enabled'),
    type: text('type'),
    site: text('site'),
    attributes: jsonb('attributes').notNull().default({}),
    aliases: text('aliases').array().notNull().default(sql`'{}'`),
    /** The fleet credential that brought it on first sight; null when an operator added it. */
    createdBy: uuid('created_by').references((): AnyPgColumn => credential.id, { onDelete: 'set null' }),
    createdAt: timestamptz('created_at').notNull().defaultNow(),
    updatedAt: timestamptz('updated_at').notNull().default(sql`clock_timestamp()`),
  },
  (table) => [
    unique('device_tenant_id_external_id_unique').on(table.tenantId, table.externalId),
    check('device_status_check', sql`${table.status} in ('enabled', 'disabled', 'removed')`),
    index('device_created_by_index').on(table.createdBy),
    index('device_updated_at_index').on(table.updatedAt),
    // Only of those that have some: a fleet without aliases pays nothing.
    index('device_aliases_index').using('gin', table.aliases).where(sql`${table.aliases} <> '{}'`),
  ],
)

export const credential = pgTable(
  'credential',
  {
    id: uuid('id').primaryKey().defaultRandom(),
    deviceId: integer('device_id')
      .notNull()
      .references(() => device.id, { onDelete: 'cascade' }),
    kind: text('kind', { enum: ['token', 'password', 'certificate'] })
      .notNull()
      .default('token'),
    /** SHA-256 of the token, or of a certificate (its fingerprint); the token itself is stored nowhere. Null for a password. */
    secretHash: bytea('secret_hash').unique(),
    fleet: boolean('fleet').notNull().default(false),
    /** Glob with `*` of the devices that a fleet credential may speak for; null: any. */
    pattern: text('pattern'),
    name: text('name'),
    expiresAt: timestamptz('expires_at'),
    revokedAt: timestamptz('revoked_at'),
    lastUsedAt: timestamptz('last_used_at'),
    createdAt: timestamptz('created_at').notNull().defaultNow(),
    updatedAt: timestamptz('updated_at').notNull().default(sql`clock_timestamp()`),
    /** `$scrypt$ln=…,r=…,p=…$salt$hash` of a chosen password. */
    passwordHash: text('password_hash'),
    /** Only subscribes, and sees its whole tenant. */
    operator: boolean('operator').notNull().default(false),
  },
  (table) => [
    index('credential_device_id_index').on(table.deviceId),
    index('credential_updated_at_index').on(table.updatedAt),
    check('credential_kind_check', sql`${table.kind} in ('token', 'password', 'certificate')`),
    check(
      'credential_secret_check',
      sql`(${table.kind} = 'password') = (${table.passwordHash} is not null) and (${table.kind} = 'password') = (${table.secretHash} is null)`,
    ),
    check('credential_role_check', sql`not (${table.fleet} and ${table.operator})`),
  ],
)

/** Who may use the admin API; the token of the configuration is not among them. */
export const adminToken = pgTable(
  'admin_token',
  {
    id: uuid('id').primaryKey().defaultRandom(),
    name: text('name').notNull(),
    role: text('role', { enum: ['viewer', 'operator', 'admin'] }).notNull(),
    /** SHA-256 of the token. */
    secretHash: bytea('secret_hash').notNull().unique(),
    expiresAt: timestamptz('expires_at'),
    revokedAt: timestamptz('revoked_at'),
    createdAt: timestamptz('created_at').notNull().defaultNow(),
    /** Reads what is of this tenant, and nothing else; null: of all. */
    tenantId: integer('tenant_id').references(() => tenant.id, { onDelete: 'cascade' }),
  },
  (table) => [
    check('admin_token_role_check', sql`${table.role} in ('viewer', 'operator', 'admin')`),
    // Whatever else an API may come to do, a token of one tenant does not.
    check('admin_token_tenant_check', sql`${table.tenantId} is null or ${table.role} = 'viewer'`),
  ],
)

/** Every change that somebody made by the admin API or the command line, written in the change's own transaction. */
export const audit = pgTable(
  'audit',
  {
    id: bigint('id', { mode: 'number' }).generatedAlwaysAsIdentity().primaryKey(),
    at: timestamptz('at').notNull().default(sql`clock_timestamp()`),
    /** `admin:NAME` for a token of the admin API, `cli:USER` for the command line. */
    actor: text('actor').notNull(),
    /** Such as `device.add`, `credential.revoke`. */
    action: text('action').notNull(),
    /** Not a reference: it outlives what it speaks of. */
    tenant: text('tenant'),
    subject: text('subject'),
    /** Never holds a secret. */
    details: jsonb('details').notNull().default({}),
  },
  (table) => [index('audit_at_index').on(table.at)],
)

/**
 * Limits that are other than the configuration says: of a tenant, of one device type in it, or of one device. The narrowest holds, for each
 * setting on its own.
 */
export const limitOverride = pgTable(
  'limit_override',
  {
    id: identity().primaryKey(),
    tenantId: integer('tenant_id')
      .notNull()
      .references(() => tenant.id, { onDelete: 'cascade' }),
    deviceType: text('device_type'),
    deviceId: integer('device_id').references(() => device.id, { onDelete: 'cascade' }),
    /** As in the configuration's `limits`. Not listed here: a newer version's may be here before an older gateway is gone. */
    setting: text('setting').notNull(),
    /** `100:1,2000:60` or `none`. */
    windows: text('windows').notNull(),
    createdAt: timestamptz('created_at').notNull().defaultNow(),
    updatedAt: timestamptz('updated_at').notNull().default(sql`clock_timestamp()`),
  },
  (table) => [
    unique('limit_override_owner_setting_unique')
      .on(table.tenantId, table.deviceType, table.deviceId, table.setting)
      .nullsNotDistinct(),
    check('limit_override_owner_check', sql`${table.deviceType} is null or ${table.deviceId} is null`),
    check(
      'limit_override_windows_check',
      sql`${table.windows} ~ '^(none|[1-9][0-9]{0,8}:[1-9][0-9]{0,5}(,[1-9][0-9]{0,8}:[1-9][0-9]{0,5})*)$'`,
    ),
    index('limit_override_device_id_index').on(table.deviceId),
  ],
)

/** What holds for all devices of a type; a type that is not here has no rules. */
export const deviceType = pgTable(
  'device_type',
  {
    tenantId: integer('tenant_id')
      .notNull()
      .references(() => tenant.id),
    /** As in `device.type`. */
    name: text('name').notNull(),
    /** `value`: equal readings of one instant are one; `message`: they are as many as there were messages. */
    identity: text('identity', { enum: ['value', 'message'] })
      .notNull()
      .default('value'),
    contractMode: text('contract_mode', { enum: ['off', 'warn', 'park'] })
      .notNull()
      .default('off'),
    /** docs/contracts.md; null: none. */
    contract: jsonb('contract'),
    updatedAt: timestamptz('updated_at').notNull().default(sql`clock_timestamp()`),
    /** How long its devices may be still before they count as silent; null: learnt for each; 0: never. */
    silentAfterSeconds: integer('silent_after_seconds'),
  },
  (table) => [
    primaryKey({ columns: [table.tenantId, table.name] }),
    check('device_type_identity_check', sql`${table.identity} in ('value', 'message')`),
    check('device_type_contract_mode_check', sql`${table.contractMode} in ('off', 'warn', 'park')`),
  ],
)

/** Tenants whose readings are shown to a role of Postgres, by views in a schema of the same name: docs/queries.md. */
export const tenantReader = pgTable('tenant_reader', {
  tenantId: integer('tenant_id')
    .primaryKey()
    .references(() => tenant.id),
  role: text('role').notNull().unique(),
})
