import { sql } from 'drizzle-orm'
import {
  bigint,
  check,
  doublePrecision,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  uuid,
} from 'drizzle-orm/pg-core'
import { timestamptz } from './columns.ts'
import { device } from './registry.ts'

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
