import {
  boolean,
  doublePrecision,
  foreignKey,
  index,
  integer,
  pgTable,
  primaryKey,
  smallint,
  text,
  unique,
} from 'drizzle-orm/pg-core'
import { identity, timestamptz } from './columns.ts'
import { device, tenant } from './registry.ts'

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

/** The newest reading of each metric by event time. Its foreign keys are checked only when a row is inserted, so once a metric of a device. */
export const latest = pgTable('latest', { ...readingColumns(), ...moreReadingColumns() }, (table) => [
  primaryKey({ columns: [table.deviceId, table.metricId] }),
  foreignKey({ columns: [table.deviceId], foreignColumns: [device.id], name: 'latest_device_id_device_id_fk' }),
  foreignKey({ columns: [table.metricId], foreignColumns: [metric.id], name: 'latest_metric_id_metric_id_fk' }),
])
