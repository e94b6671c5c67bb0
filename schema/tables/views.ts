import {
  bigint,
  boolean,
  doublePrecision,
  integer,
  interval,
  jsonb,
  pgView,
  smallint,
  text,
  uuid,
} from 'drizzle-orm/pg-core'
import { timestamptz } from './columns.ts'

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
