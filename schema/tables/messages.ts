import { sql } from 'drizzle-orm'
import {
  bigint,
  boolean,
  check,
  date,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core'
import { bytea, timestamptz } from './columns.ts'

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
