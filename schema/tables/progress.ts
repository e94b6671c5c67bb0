import { sql } from 'drizzle-orm'
import { bigint, index, integer, jsonb, pgTable, primaryKey, text } from 'drizzle-orm/pg-core'
import { counter, timestamptz } from './columns.ts'

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

/** When work that is done now and then was done last: a run that was missed is made up. */
export const upkeep = pgTable('upkeep', {
  task: text('task').primaryKey(),
  finishedAt: timestamptz('finished_at').notNull(),
  /** What it did. */
  details: jsonb('details').notNull().default({}),
})
