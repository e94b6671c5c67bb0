import Type from 'typebox'
import {
  deviceStatuses,
  latestReadings,
  listReadings,
  type ReadingFilter,
  readingsExport,
} from '../registry/read-telemetry.ts'
import { maxSteps, readingSeries } from '../registry/reading-series.ts'
import { invalid } from '../registry/refusal.ts'
import { durationMs } from '../registry/times.ts'
import { adminRoute } from '../route.ts'
import { cursor, deviceId, limit, limitOf, nullable, prefix, range, strict, tenantOfQuery } from '../schemas.ts'
import { exportOptions, exportTypes, streamedExport } from './exporting.ts'
import { rangeOf } from './time-range.ts'

const tag = 'readings'
const params = strict({ device: deviceId })
const metricName = Type.String({ minLength: 1, maxLength: 256 })
const oneMetric = {
  tenant: tenantOfQuery,
  metric: metricName,
  unit: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
  ...range,
}
const number = Type.Union([Type.Number(), Type.Null()])
const flag = Type.Union([Type.Boolean(), Type.Null()])
const reading = {
  time: Type.String({ description: 'event time, with microseconds' }),
  unit: nullable(),
  value: number,
  text: nullable(),
  flag,
  clock: Type.Integer({
    description: "0 the device's; 1 it gave none; 2 far ahead, so the time is that of the arrival",
  }),
  ingestTime: Type.String(),
}

export const readingRoutes = [
  adminRoute({
    method: 'GET',
    path: '/device-status',
    role: 'viewer',
    tag,
    summary: 'Devices as the view device_status has them, in the order of their ids',
    ofTenant: true,
    query: strict({
      tenant: tenantOfQuery,
      prefix,
      silent: Type.Optional(
        Type.String({ pattern: '^\\d{1,8}[smhdw]$', description: '1h: only those that were not heard for so long' }),
      ),
      after: Type.Optional(deviceId),
      limit,
    }),
    status: 200,
    response: Type.Object({ devices: Type.Array(Type.Record(Type.String(), Type.Unknown())), next: nullable() }),
    async handle({ client, query: { tenant = 'default', prefix, silent, after, limit } }) {
      const silentSince = silent === undefined ? undefined : new Date(Date.now() - durationMs(silent, 'silent'))
      const page = await deviceStatuses(client, { tenant, prefix, silentSince, after, limit: limitOf(limit) })
      return { devices: [...page.rows], next: page.next }
    },
  }),
  adminRoute({
    method: 'GET',
    path: '/latest',
    role: 'viewer',
    tag,
    summary: 'The newest reading of each metric, by device',
    ofTenant: true,
    query: strict({
      tenant: tenantOfQuery,
      device: Type.Optional(deviceId),
      prefix,
      metric: Type.Optional(metricName),
      after: cursor,
      limit,
    }),
    status: 200,
    response: Type.Object({
      latest: Type.Array(Type.Object({ device: Type.String(), metric: Type.String(), ...reading })),
      next: nullable(),
    }),
    async handle({ client, query: { tenant = 'default', limit, ...filter } }) {
      const { rows, next } = await latestReadings(client, { tenant, ...filter, limit: limitOf(limit) })
      return { latest: [...rows], next }
    },
  }),
  adminRoute({
    method: 'GET',
    path: '/devices/:device/readings',
    role: 'viewer',
    tag,
    summary: 'One metric of a device as it was stored, the oldest first',
    ofTenant: true,
    params,
    query: strict({
      ...oneMetric,
      after: cursor,
      limit,
    }),
    status: 200,
    response: Type.Object({ readings: Type.Array(Type.Object(reading)), next: nullable() }),
    async handle({ client, params: { device }, query }) {
      const { after, limit } = query
      const { rows, next } = await listReadings(client, filterOf(device, query), { after, limit: limitOf(limit) })
      return { readings: [...rows], next }
    },
  }),
  adminRoute({
    method: 'GET',
    path: '/devices/:device/series',
    role: 'viewer',
    tag,
    summary: `One metric of a device in steps: count, min, max, avg, sum and last of each, from the widest rollup that has them; ${maxSteps} steps at most`,
    ofTenant: true,
    params,
    query: strict({
      ...oneMetric,
      step: Type.String({
        pattern: '^\\d{1,8}[smhdw]$',
        description: '10m, 1h, 1d; whole multiples since the epoch, in UTC',
      }),
    }),
    status: 200,
    response: Type.Object({
      source: Type.String({ description: 'reading, rollup_10m, rollup_1h' }),
      series: Type.Array(
        Type.Object({
          time: Type.String({ description: 'the first instant of the step' }),
          unit: nullable(),
          count: Type.Integer(),
          min: number,
          max: number,
          avg: number,
          sum: number,
          last: Type.Unknown({ description: 'a number, text or flag' }),
        }),
      ),
    }),
    async handle({ client, params: { device }, query }) {
      const stepMs = durationMs(query.step, 'the step')
      if (stepMs === 0) throw invalid('a step is longer than nothing')
      const { rows, source } = await readingSeries(client, filterOf(device, query), stepMs)
      return { source, series: [...rows] }
    },
  }),
  adminRoute({
    method: 'GET',
    path: '/export',
    role: 'viewer',
    tag,
    summary:
      'Readings as CSV or NDJSON, streamed, in no order that is promised; fleetbridge import reads both. Two at once, 30 min and ten million rows each: past them the answer breaks off',
    ofTenant: true,
    query: strict({
      tenant: tenantOfQuery,
      device: Type.Optional(deviceId),
      prefix,
      metric: Type.Optional(metricName),
      ...range,
      ...exportOptions,
    }),
    status: 200,
    streams: exportTypes,
    response: Type.Unknown(),
    async handle({ exports, query: { tenant = 'default', device, prefix, metric, from, to, ...options } }) {
      const query = readingsExport({ tenant, device, prefix, metric, ...rangeOf({ from, to }) })
      return await streamedExport(exports, query, options)
    },
  }),
]

function filterOf(
  device: string,
  query: {
    readonly from?: string
    readonly to?: string
    readonly tenant?: string
    readonly metric: string
    readonly unit?: string
  },
): ReadingFilter {
  const { tenant = 'default', metric, unit } = query
  if (metric.includes('\0') || unit?.includes('\0')) throw invalid('a name holds no U+0000')
  return { tenant, device, metric, unit, ...rangeOf(query) }
}
