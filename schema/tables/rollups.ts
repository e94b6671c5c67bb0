import { sql } from 'drizzle-orm'
import {
  bigint,
  boolean,
  check,
  doublePrecision,
  index,
  integer,
  pgTable,
  primaryKey,
  smallint,
  text,
} from 'drizzle-orm/pg-core'
import { timestamptz } from './columns.ts'
import { tenant } from './registry.ts'

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
