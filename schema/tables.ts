import { sql } from 'drizzle-orm'
import {
  type AnyPgColumn,
  bigint,
  boolean,
  check,
  customType,
  date,
  doublePrecision,
  foreignKey,
  index,
  integer,
  interval,
  jsonb,
  pgTable,
  pgView,
  primaryKey,
  smallint,
  text,
  timestamp,
  unique,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core'

/**
 * The tables as TypeScript sees them. What Drizzle has no words for stands in schema/migrations only: partitions, views, triggers, comments,
 * the default tenant. docs/schema.md explains them to people who query.
 */

const bytea = customType<{ data: Buffer }>({ dataType: () => 'bytea' })
const timestamptz = (name: string) => timestamp(name, { withTimezone: true })
const identity = () => integer('id').generatedAlwaysAsIdentity()
const counter = (name: string) => bigint(name, { mode: 'number' }).notNull().default(0)

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

/** The dictionary of names: one row a name and unit of a tenant, made on first sight. */
export const metric = pgTable(
  'metric',
  {
    id: identity().primaryKey(),
    tenantId: integer('tenant_id')
      .notNull()
      .references(() => tenant.id),
    name: text('name').notNull(),
    unit: text('unit'),
    /** Who brought the name: a device may bring 500, a tenant holds 10,000. */
    firstDeviceId: integer('first_device_id').references(() => device.id, { onDelete: 'set null' }),
    createdAt: timestamptz('created_at').notNull().defaultNow(),
  },
  (table) => [
    unique('metric_tenant_id_name_unit_unique').on(table.tenantId, table.name, table.unit).nullsNotDistinct(),
    index('metric_first_device_id_index').on(table.firstDeviceId),
  ],
)

/** Exactly one of value, text, flag is not null. The order of columns leaves no padding: 8 bytes less a row than the order one would read. */
const readingColumns = () => ({
  deviceId: integer('device_id').notNull(),
  metricId: integer('metric_id').notNull(),
  eventTime: timestamptz('event_time').notNull(),
  ingestTime: timestamptz('ingest_time').notNull(),
  value: doublePrecision('value'),
})
const moreReadingColumns = () => ({
  /** 0 the device's clock; 1 it named no time or its clock was not set; 2 it was more than 10 min ahead. With 1 and 2 event_time is the arrival. */
  clock: smallint('clock').notNull().default(0),
  flag: boolean('flag'),
  text: text('text'),
  /** What the device's clock said, only with clock 2. */
  deviceTime: timestamptz('device_time'),
})

/**
 * Every value of every metric. Partitioned by range on event_time, each range by hash on device_id (modulus 4); the worker makes the ranges.
 * No foreign keys: each costs a look-up and a row lock per reading (the worker's batch of 5,000 would lock 10,000 rows); the worker resolves both
 * numbers in the same transaction, and those of `latest` keep the parents from being deleted.
 */
export const reading = pgTable(
  'reading',
  {
    ...readingColumns(),
    /** 0 for the first value of a metric at an instant, 1, 2, … for further ones. */
    ordinal: smallint('ordinal').notNull().default(0),
    ...moreReadingColumns(),
  },
  (table) => [primaryKey({ columns: [table.deviceId, table.metricId, table.eventTime, table.ordinal] })],
)

const rollupColumns = () => ({
  deviceId: integer('device_id').notNull(),
  metricId: integer('metric_id').notNull(),
  /** Its first instant; buckets lie at whole multiples of their width since the epoch. */
  bucket: timestamptz('bucket').notNull(),
  /** Of its numbers; where it holds none, of its texts and flags: sum / count is always the mean. */
  count: integer('count').notNull(),
  min: doublePrecision('min'),
  max: doublePrecision('max'),
  /** Null without numbers, and with one past ±1e290: the sum would have no end. */
  sum: doublePrecision('sum'),
  lastTime: timestamptz('last_time').notNull(),
  lastValue: doublePrecision('last_value'),
  lastText: text('last_text'),
  lastFlag: boolean('last_flag'),
})

/** Readings by 10 minutes, computed from `reading` by the worker; ranges on bucket. */
export const rollup10m = pgTable('rollup_10m', rollupColumns(), (table) => [
  primaryKey({ columns: [table.deviceId, table.metricId, table.bucket] }),
])

/** The same by hours. */
export const rollup1h = pgTable('rollup_1h', rollupColumns(), (table) => [
  primaryKey({ columns: [table.deviceId, table.metricId, table.bucket] }),
  // For an hour of the whole fleet. Without more columns, so that an hour that grows is updated in its place.
  index('rollup_1h_metric_id_bucket_index').on(table.metricId, table.bucket),
])

/** An hour of a metric over all devices of its tenant: 10,000 devices have 1.7 million rows a week in rollup_1h, too many for a chart. */
export const rollupFleet1h = pgTable(
  'rollup_fleet_1h',
  {
    metricId: integer('metric_id').notNull(),
    bucket: timestamptz('bucket').notNull(),
    devices: integer('devices').notNull(),
    count: bigint('count', { mode: 'number' }).notNull(),
    min: doublePrecision('min'),
    max: doublePrecision('max'),
    sum: doublePrecision('sum'),
  },
  (table) => [primaryKey({ columns: [table.metricId, table.bucket] })],
)

/** Hours whose row in rollup_fleet_1h is not that of rollup_1h any more; written by triggers, and an hour may be there often. */
export const rollupFleetDirty = pgTable('rollup_fleet_dirty', {
  id: bigint('id', { mode: 'number' }).generatedAlwaysAsIdentity().primaryKey(),
  metricId: integer('metric_id').notNull(),
  bucket: timestamptz('bucket').notNull(),
})

/** Buckets of 10 minutes that have to be computed again, written in the transaction of their rows; never updated, a bucket may be there often. */
export const rollupDirty = pgTable('rollup_dirty', {
  id: bigint('id', { mode: 'number' }).generatedAlwaysAsIdentity().primaryKey(),
  epoch: integer('epoch').notNull(),
  deviceId: integer('device_id').notNull(),
  metricId: integer('metric_id').notNull(),
  bucket: timestamptz('bucket').notNull(),
})

/** One row: the epoch of new marks. Only marks of earlier epochs are worked on, which is why a worker may remember what it marked in this one. */
export const rollupRound = pgTable(
  'rollup_round',
  {
    id: smallint('id').primaryKey().default(1),
    epoch: integer('epoch').notNull().default(1),
    begunAt: timestamptz('begun_at').notNull().default(sql`clock_timestamp()`),
    /** Earlier than this no worker begins the next epoch: it bounds the share of the database's time. */
    nextAt: timestamptz('next_at').notNull().default(sql`clock_timestamp()`),
  },
  (table) => [check('rollup_round_id_check', sql`${table.id} = 1`)],
)

export const rollupState = pgTable('rollup_state', {
  tenantId: integer('tenant_id')
    .primaryKey()
    .references(() => tenant.id, { onDelete: 'cascade' }),
  /** Readings that were stored before this are in the rollups. */
  processedUntil: timestamptz('processed_until'),
  /** Retention took readings before this, so buckets before it are never computed again. */
  readingsFrom: timestamptz('readings_from'),
})

/** Tenants whose readings are shown to a role of Postgres, by views in a schema of the same name: docs/queries.md. */
export const tenantReader = pgTable('tenant_reader', {
  tenantId: integer('tenant_id')
    .primaryKey()
    .references(() => tenant.id),
  role: text('role').notNull().unique(),
})

/** When work that is done now and then was done last: a run that was missed is made up. */
export const upkeep = pgTable('upkeep', {
  task: text('task').primaryKey(),
  finishedAt: timestamptz('finished_at').notNull(),
  /** What it did. */
  details: jsonb('details').notNull().default({}),
})

/** The newest reading of each metric by event time. Its foreign keys are checked only when a row is inserted, so once a metric of a device. */
export const latest = pgTable('latest', { ...readingColumns(), ...moreReadingColumns() }, (table) => [
  primaryKey({ columns: [table.deviceId, table.metricId] }),
  foreignKey({ columns: [table.deviceId], foreignColumns: [device.id], name: 'latest_device_id_device_id_fk' }),
  foreignKey({ columns: [table.metricId], foreignColumns: [metric.id], name: 'latest_metric_id_metric_id_fk' }),
])

/** How far each partition of the event log has become rows; written in the rows' transaction, so a restart neither loses nor doubles. */
export const ingestOffset = pgTable(
  'ingest_offset',
  {
    stream: text('stream').notNull(),
    partition: integer('partition').notNull(),
    nextOffset: bigint('next_offset', { mode: 'number' }).notNull(),
    /** Messages: new rows, all readings known already, dead letters. */
    stored: counter('stored'),
    duplicate: counter('duplicate'),
    parked: counter('parked'),
    /** Rows of `reading`. */
    readings: counter('readings'),
    updatedAt: timestamptz('updated_at').notNull().default(sql`clock_timestamp()`),
    /** Records that count nowhere else: dead letters of messages that were refused. */
    refused: counter('refused'),
    /** Offsets without a record of ours: next_offset = stored + duplicate + parked + refused + skipped. */
    skipped: counter('skipped'),
    /** next_offset as the last program left it that counts `refused` and `skipped`; other than next_offset: one that does not has written since. */
    countedOffset: bigint('counted_offset', { mode: 'number' }),
  },
  (table) => [primaryKey({ columns: [table.stream, table.partition] })],
)

/**
 * What each minute's messages became, by the arrival at the gateway, written in the rows' transaction: what a restart cannot reset. An audit
 * compares it with the rows; kept for some days.
 */
export const ingestMinute = pgTable(
  'ingest_minute',
  {
    stream: text('stream').notNull(),
    partition: integer('partition').notNull(),
    minute: timestamptz('minute').notNull(),
    stored: counter('stored'),
    duplicate: counter('duplicate'),
    parked: counter('parked'),
    /** Dead letters of messages that were refused at the gateway. */
    refused: counter('refused'),
    /** New rows of `dead_letter`. */
    letters: counter('letters'),
    /** New rows of `reading`, and between which event times they lie. */
    readings: counter('readings'),
    fromEventTime: timestamptz('from_event_time'),
    toEventTime: timestamptz('to_event_time'),
  },
  (table) => [
    primaryKey({ columns: [table.stream, table.partition, table.minute] }),
    index('ingest_minute_minute_index').on(table.minute),
  ],
)

export const deadLetter = pgTable(
  'dead_letter',
  {
    id: uuid('id').primaryKey(),
    /** Where its record lay in the event log. */
    stream: text('stream'),
    partition: integer('partition'),
    recordOffset: bigint('record_offset', { mode: 'number' }),
    /** As the message named them: they need not exist. */
    tenant: text('tenant').notNull(),
    device: text('device').notNull(),
    source: text('source').notNull(),
    /** MQTT topic name or path of the request; null when the worker parked a decoded message. */
    topic: text('topic'),
    contentType: text('content_type'),
    stage: text('stage').notNull(),
    code: text('code').notNull(),
    message: text('message').notNull(),
    acknowledged: boolean('acknowledged').notNull(),
    ingestTime: timestamptz('ingest_time').notNull(),
    /** The message's own bytes; null only when even these were refused. */
    payload: bytea('payload'),
    /** When its replay became rows, known ones, or nothing to store; null while it waits. */
    replayedAt: timestamptz('replayed_at'),
    /** What its last replay came to: stored, duplicate, ignored, or parked and then with the newest code and message. */
    replayOutcome: text('replay_outcome', { enum: ['stored', 'duplicate', 'ignored', 'parked'] }),
    /** When a replay was last begun. */
    triedAt: timestamptz('tried_at'),
    /** What a replay needs beside the bytes: schema/dead-letter.ts. */
    context: jsonb('context'),
  },
  (table) => [
    uniqueIndex('dead_letter_record_unique')
      .on(table.stream, table.partition, table.recordOffset)
      .where(sql`${table.recordOffset} is not null`),
    index('dead_letter_ingest_time_index').on(table.ingestTime),
    check(
      'dead_letter_replay_outcome_check',
      sql`${table.replayOutcome} in ('stored', 'duplicate', 'ignored', 'parked')`,
    ),
  ],
)

/**
 * What a message was called, for as long as it may come once more. Partitioned by range on stored_day, a day each; the worker makes and drops the
 * days. Of a key the first 16 bytes of its SHA-256 are kept: senders choose keys of any length, and an index entry shall be small.
 */
export const recentMessage = pgTable(
  'recent_message',
  {
    deviceId: integer('device_id').notNull(),
    /** Of the writing, in UTC: a worker that was away for days finds what it wrote itself. */
    storedDay: date('stored_day').notNull(),
    messageKey: uuid('message_key').notNull(),
    ingestTime: timestamptz('ingest_time').notNull(),
    /** Only of an MQTT delivery: its client has used the same packet id for the same bytes again, so a re-send says nothing. */
    repeated: boolean('repeated').notNull().default(false),
  },
  (table) => [primaryKey({ columns: [table.deviceId, table.messageKey, table.storedDay] })],
)

/**
 * Bytes of messages beside their readings, where a route says `keepRaw`. Partitioned by range on drop_day, a day each; the worker makes the days and drops
 * them when they have come.
 */
export const rawMessage = pgTable(
  'raw_message',
  {
    deviceId: integer('device_id').notNull(),
    ingestTime: timestamptz('ingest_time').notNull(),
    /** The record's `id`. */
    eventId: uuid('event_id').notNull(),
    /** In UTC; from then on it is gone. */
    dropDay: date('drop_day').notNull(),
    source: text('source').notNull(),
    topic: text('topic').notNull(),
    contentType: text('content_type'),
    /** As that of a dead letter. */
    context: jsonb('context'),
    payload: bytea('payload').notNull(),
    /** What it became: `readings` of the record, or of the last time that it was decoded again. */
    readings: jsonb('readings').notNull(),
    redecodedAt: timestamptz('redecoded_at'),
  },
  (table) => [primaryKey({ columns: [table.deviceId, table.ingestTime, table.eventId, table.dropDay] })],
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

/**
 * A connection of an MQTT client, the latest of each client id. Which of two records is the later one is what (epoch, incarnation, ended) says, so
 * that records may come in any order and more than once.
 */
export const session = pgTable(
  'session',
  {
    deviceId: integer('device_id')
      .notNull()
      .references(() => device.id, { onDelete: 'cascade' }),
    /** MQTT client id. */
    client: text('client').notNull(),
    /** Rises with each connection of the client id. */
    epoch: bigint('epoch', { mode: 'number' }).notNull(),
    /** Of its gateway: see gateway_instance. */
    incarnation: bigint('incarnation', { mode: 'number' }).notNull(),
    gateway: text('gateway').notNull(),
    connectedAt: timestamptz('connected_at').notNull(),
    /** Null: connected. */
    endedAt: timestamptz('ended_at'),
    /** Null: connected; disconnected: it said so, or we ended it; lost: without a word. */
    ending: text('ending', { enum: ['disconnected', 'lost'] }),
  },
  (table) => [
    primaryKey({ columns: [table.deviceId, table.client] }),
    index('session_gateway_index').on(table.gateway, table.incarnation).where(sql`${table.endedAt} is null`),
    index('session_ended_at_index').on(table.endedAt).where(sql`${table.endedAt} is not null`),
    check('session_ending_check', sql`(${table.endedAt} is null) = (${table.ending} is null)`),
  ],
)

/** A gateway process that holds sessions, and when it was last heard. Past the expiry its sessions are lost. */
export const gatewayInstance = pgTable(
  'gateway_instance',
  {
    /** Host and a random part: one process. */
    name: text('name').notNull(),
    /** Rises when the process has to say anew who is connected: what it said under the one before has ended with that. */
    incarnation: bigint('incarnation', { mode: 'number' }).notNull(),
    seenAt: timestamptz('seen_at').notNull().default(sql`clock_timestamp()`),
    endedAt: timestamptz('ended_at'),
  },
  (table) => [primaryKey({ columns: [table.name, table.incarnation] })],
)

/** What happened to devices. A replayed record finds its row by its own id and time. No foreign key, as in `reading`. */
export const deviceEvent = pgTable(
  'device_event',
  {
    deviceId: integer('device_id').notNull(),
    time: timestamptz('time').notNull(),
    id: uuid('id').notNull(),
    kind: text('kind', { enum: ['connected', 'disconnected', 'lost', 'silent', 'back', 'limited'] }).notNull(),
    /** Of the session, for connected, disconnected and lost. */
    epoch: bigint('epoch', { mode: 'number' }),
    details: jsonb('details').notNull().default({}),
  },
  (table) => [
    primaryKey({ columns: [table.deviceId, table.time, table.id] }),
    index('device_event_time_index').on(table.time),
    check(
      'device_event_kind_check',
      sql`${table.kind} in ('connected', 'disconnected', 'lost', 'silent', 'back', 'limited')`,
    ),
  ],
)

/** When a device counts as silent. A device without readings has no row. */
export const deviceWatch = pgTable(
  'device_watch',
  {
    deviceId: integer('device_id')
      .primaryKey()
      .references(() => device.id, { onDelete: 'cascade' }),
    /** How long it may be still; null: not known yet, or not watched. */
    silentAfterSeconds: doublePrecision('silent_after_seconds'),
    /** Whether that was said (attribute, type) or learnt from its own history. */
    origin: text('origin', { enum: ['device', 'type', 'learnt'] }),
    /** Arrival of its newest reading, as of the last look. */
    lastSeen: timestamptz('last_seen'),
    /** Since when it is silent; null: it is not. */
    silentSince: timestamptz('silent_since'),
    lookAt: timestamptz('look_at').notNull().default(sql`clock_timestamp()`),
    learnAt: timestamptz('learn_at').notNull().default(sql`clock_timestamp()`),
  },
  (table) => [
    index('device_watch_look_at_index').on(table.lookAt),
    index('device_watch_learn_at_index').on(table.learnAt),
    index('device_watch_silent_index').on(table.deviceId).where(sql`${table.silentSince} is not null`),
  ],
)

/** What the webhook is told: in the order of id for each subject, until it was taken. */
export const webhookDelivery = pgTable(
  'webhook_delivery',
  {
    id: bigint('id', { mode: 'number' }).generatedAlwaysAsIdentity().primaryKey(),
    /** The receiver drops copies by it. */
    eventId: uuid('event_id').notNull().unique(),
    /** Whose order it keeps: `tenant/device`, or the tenant. */
    subject: text('subject').notNull(),
    body: jsonb('body').notNull(),
    createdAt: timestamptz('created_at').notNull().default(sql`clock_timestamp()`),
    attempts: integer('attempts').notNull().default(0),
    nextAt: timestamptz('next_at').notNull().default(sql`clock_timestamp()`),
    /** When the receiver took it, or it was given up. */
    doneAt: timestamptz('done_at'),
    /** taken; expired: it was never taken. */
    outcome: text('outcome', { enum: ['taken', 'expired'] }),
  },
  (table) => [
    index('webhook_delivery_waiting_index').on(table.subject, table.id).where(sql`${table.doneAt} is null`),
    index('webhook_delivery_done_at_index').on(table.doneAt).where(sql`${table.doneAt} is not null`),
  ],
)

const telemetryColumns = () => ({
  tenant: text('tenant').notNull(),
  device: text('device').notNull(),
  metric: text('metric').notNull(),
  unit: text('unit'),
  time: timestamptz('time').notNull(),
  value: doublePrecision('value'),
  text: text('text'),
  flag: boolean('flag'),
  clock: smallint('clock').notNull(),
  ingestTime: timestamptz('ingest_time').notNull(),
})

export const telemetry = pgView('telemetry', telemetryColumns()).existing()
export const telemetryLatest = pgView('telemetry_latest', telemetryColumns()).existing()

const rollupViewColumns = () => ({
  tenant: text('tenant').notNull(),
  device: text('device').notNull(),
  metric: text('metric').notNull(),
  unit: text('unit'),
  time: timestamptz('time').notNull(),
  count: integer('count').notNull(),
  avg: doublePrecision('avg'),
  min: doublePrecision('min'),
  max: doublePrecision('max'),
  last: doublePrecision('last'),
  lastText: text('last_text'),
  lastFlag: boolean('last_flag'),
  lastTime: timestamptz('last_time').notNull(),
})

export const telemetry10m = pgView('telemetry_10m', rollupViewColumns()).existing()
export const telemetry1h = pgView('telemetry_1h', rollupViewColumns()).existing()

export const telemetryFleet1h = pgView('telemetry_fleet_1h', {
  tenant: text('tenant').notNull(),
  metric: text('metric').notNull(),
  unit: text('unit'),
  time: timestamptz('time').notNull(),
  devices: integer('devices').notNull(),
  count: bigint('count', { mode: 'number' }).notNull(),
  avg: doublePrecision('avg'),
  min: doublePrecision('min'),
  max: doublePrecision('max'),
}).existing()

export const deadLetterSummary = pgView('dead_letter_summary', {
  tenant: text('tenant').notNull(),
  code: text('code').notNull(),
  stage: text('stage').notNull(),
  acknowledged: boolean('acknowledged').notNull(),
  messages: bigint('messages', { mode: 'number' }).notNull(),
  waiting: bigint('waiting', { mode: 'number' }).notNull(),
  lastHour: bigint('last_hour', { mode: 'number' }).notNull(),
  lastDay: bigint('last_day', { mode: 'number' }).notNull(),
  devices: bigint('devices', { mode: 'number' }).notNull(),
  firstTime: timestamptz('first_time').notNull(),
  lastTime: timestamptz('last_time').notNull(),
}).existing()

export const deviceStatus = pgView('device_status', {
  tenant: text('tenant').notNull(),
  device: text('device').notNull(),
  status: text('status').notNull(),
  type: text('type'),
  site: text('site'),
  metrics: bigint('metrics', { mode: 'number' }).notNull(),
  lastTime: timestamptz('last_time'),
  lastIngestTime: timestamptz('last_ingest_time'),
  createdAt: timestamptz('created_at').notNull(),
  silentFor: interval('silent_for'),
  firmware: text('firmware'),
  battery: doublePrecision('battery'),
  attributes: jsonb('attributes').notNull(),
  online: boolean('online').notNull(),
  since: timestamptz('since'),
  lastSeen: timestamptz('last_seen'),
  gateway: text('gateway'),
  silentSince: timestamptz('silent_since'),
}).existing()

export const deviceEvents = pgView('device_events', {
  tenant: text('tenant').notNull(),
  device: text('device').notNull(),
  time: timestamptz('time').notNull(),
  kind: text('kind').notNull(),
  client: text('client'),
  gateway: text('gateway'),
  reason: text('reason'),
  epoch: bigint('epoch', { mode: 'number' }),
  details: jsonb('details').notNull(),
  id: uuid('id').notNull(),
}).existing()

export const ingestHealth = pgView('ingest_health', {
  stream: text('stream').notNull(),
  partition: integer('partition').notNull(),
  nextOffset: bigint('next_offset', { mode: 'number' }).notNull(),
  stored: bigint('stored', { mode: 'number' }).notNull(),
  duplicate: bigint('duplicate', { mode: 'number' }).notNull(),
  parked: bigint('parked', { mode: 'number' }).notNull(),
  readings: bigint('readings', { mode: 'number' }).notNull(),
  updatedAt: timestamptz('updated_at').notNull(),
  idleSeconds: doublePrecision('idle_seconds').notNull(),
  refused: bigint('refused', { mode: 'number' }).notNull(),
  skipped: bigint('skipped', { mode: 'number' }).notNull(),
}).existing()
