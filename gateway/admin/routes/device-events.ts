import Type from 'typebox'
import { deviceEventKinds, deviceEventsExport, listDeviceEvents } from '../registry/device-events.ts'
import { adminRoute } from '../route.ts'
import { cursor, deviceId, limit, limitOf, nullable, prefix, range, strict, tenantOfQuery } from '../schemas.ts'
import { exportOptions, exportTypes, streamedExport } from './exporting.ts'
import { rangeOf } from './time-range.ts'

const tag = 'events'
const kind = Type.Optional(Type.Enum([...deviceEventKinds]))
const filter = { tenant: tenantOfQuery, device: Type.Optional(deviceId), prefix, kind, ...range }

export const deviceEventRoutes = [
  adminRoute({
    method: 'GET',
    path: '/events',
    role: 'viewer',
    tag,
    summary: 'What happened to devices, the newest first: connections, silence, limits',
    ofTenant: true,
    query: strict({ ...filter, after: cursor, limit }),
    status: 200,
    response: Type.Object({
      events: Type.Array(
        Type.Object({
          id: Type.String({ description: 'the same in the webhook and in Kafka' }),
          time: Type.String({ description: 'by the clock of the gateway, with microseconds' }),
          device: Type.String(),
          kind: Type.String(),
          client: nullable('MQTT client id of the connection'),
          gateway: nullable(),
          reason: nullable('why the connection ended'),
          epoch: Type.Union([Type.Integer(), Type.Null()], {
            description: 'rises with each connection of a client id',
          }),
          details: Type.Record(Type.String(), Type.Unknown()),
        }),
      ),
      next: nullable(),
    }),
    async handle({ client, query: { tenant = 'default', from, to, after, limit, ...which } }) {
      const page = { after, limit: limitOf(limit) }
      const { rows, next } = await listDeviceEvents(client, { tenant, ...which, ...rangeOf({ from, to }) }, page)
      return { events: [...rows], next }
    },
  }),
  adminRoute({
    method: 'GET',
    path: '/events/export',
    role: 'viewer',
    tag,
    summary: 'Events as CSV or NDJSON, streamed, in no order that is promised; within the bounds of GET /export',
    ofTenant: true,
    query: strict({ ...filter, ...exportOptions }),
    status: 200,
    streams: exportTypes,
    response: Type.Unknown(),
    async handle({ client, exports, query: { tenant = 'default', device, prefix, kind, from, to, ...options } }) {
      const query = await deviceEventsExport(client, { tenant, device, prefix, kind, ...rangeOf({ from, to }) })
      return await streamedExport(exports, query, options)
    },
  }),
]
