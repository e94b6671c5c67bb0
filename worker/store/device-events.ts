import type pg from 'pg'
import type { DeviceEvent, DeviceEventRecord, EventSession, GatewayBeat } from '#schema/device-event.ts'
import { ArrayParameter, int8Array, textArray, timestamptzArray } from './array-parameter.ts'

export interface DeviceEventTools {
  /** Of which kinds the webhook hears; empty without one. */
  readonly webhookKinds: readonly string[]
}

/**
 * What a new row of device_event tells the webhook, as the last part of a WITH that has `fresh` (device_id, time, id, kind, details).
 * @param kinds the parameter with the kinds
 */
export const tellWebhookSql = (kinds: string) => `insert into webhook_delivery (event_id, subject, body)
  select f.id, t.name || '/' || d.external_id, jsonb_build_object('id', f.id, 'kind', f.kind, 'tenant', t.name, 'device', d.external_id,
    'time', to_char(f.time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'details', f.details)
  from fresh f join device d on d.id = f.device_id join tenant t on t.id = d.tenant_id
  where f.kind = any(${kinds}) order by f.time, f.id
  on conflict do nothing`

/**
 * Makes device events rows, whatever order they come in and however often: an event is known by its id, and of a client's sessions the later one
 * holds. Those of devices that the registry does not know are left out.
 * @returns how many events are new
 */
export async function writeDeviceEvents(
  client: pg.ClientBase,
  records: readonly DeviceEventRecord[],
  { webhookKinds }: DeviceEventTools,
): Promise<number> {
  const events: DeviceEvent[] = []
  const beats: GatewayBeat[] = []
  for (const record of records) {
    if (record.kind === 'gateway') beats.push(record)
    else events.push(record)
  }
  const latest = latestSessions(events)
  await writeInstances(client, beats, latest)
  if (latest.length > 0) await writeSessions(client, latest)
  return events.length === 0 ? 0 : await writeEvents(client, events, webhookKinds)
}

async function writeEvents(
  client: pg.ClientBase,
  events: readonly DeviceEvent[],
  webhookKinds: readonly string[],
): Promise<number> {
  const epochs = ArrayParameter.int8(events.length)
  for (const { session } of events) session === undefined ? epochs.null() : epochs.int64(session.epoch)
  const { rows } = await client.query<{ count: number }>({
    name: 'device-events',
    text: `with fresh as (
        insert into device_event (device_id, time, id, kind, epoch, details)
        select d.id, k.time, k.id::uuid, k.kind, k.epoch, k.details::jsonb
        from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::int8[], $7::text[])
          as k(id, tenant, device, kind, time, epoch, details)
        join tenant t on t.name = k.tenant join device d on d.tenant_id = t.id and d.external_id = k.device
        on conflict do nothing returning device_id, time, id, kind, details
      ), told as (${tellWebhookSql('$8::text[]')})
      select count(*)::int as count from fresh`,
    values: [
      textArray(events.map(({ id }) => id)),
      textArray(events.map(({ tenant }) => tenant)),
      textArray(events.map(({ device }) => device)),
      textArray(events.map(({ kind }) => kind)),
      timestamptzArray(events.map(({ timeUs }) => timeUs)),
      epochs.end(),
      textArray(events.map(detailsOf)),
      textArray(webhookKinds),
    ],
  })
  return rows[0]?.count ?? 0
}

function detailsOf({ session, details }: DeviceEvent): string {
  return JSON.stringify({ ...(session && { client: session.client, gateway: session.gateway }), ...details })
}

interface SessionRow {
  readonly event: DeviceEvent
  readonly session: EventSession
}

/** The latest of each client: a statement can write a row only once. */
function latestSessions(events: readonly DeviceEvent[]): SessionRow[] {
  const latest = new Map<string, SessionRow>()
  for (const event of events) {
    const { session } = event
    if (session === undefined) continue
    const key = `${event.tenant}\0${event.device}\0${session.client}`
    const known = latest.get(key)
    if (known === undefined || isLater(event, session, known)) latest.set(key, { event, session })
  }
  return [...latest.values()]
}

function isLater(event: DeviceEvent, { epoch, incarnation }: EventSession, known: SessionRow): boolean {
  if (epoch !== known.session.epoch) return epoch > known.session.epoch
  if (incarnation !== known.session.incarnation) return incarnation > known.session.incarnation
  return event.kind !== 'connected' && known.event.kind === 'connected'
}

/** In the order of the key, so that two transactions wait for each other in one direction only. */
async function writeSessions(client: pg.ClientBase, rows: readonly SessionRow[]): Promise<void> {
  const ended = ArrayParameter.timestamptz(rows.length)
  for (const { event } of rows) event.kind === 'connected' ? ended.null() : ended.time(event.timeUs)
  await client.query({
    name: 'sessions',
    text: `insert into session as s (device_id, client, epoch, incarnation, gateway, connected_at, ended_at, ending)
      select d.id, k.client, k.epoch, k.incarnation, k.gateway, k.connected_at, k.ended_at, k.ending
      from unnest($1::text[], $2::text[], $3::text[], $4::int8[], $5::int8[], $6::text[], $7::timestamptz[], $8::timestamptz[], $9::text[])
        as k(tenant, device, client, epoch, incarnation, gateway, connected_at, ended_at, ending)
      join tenant t on t.name = k.tenant join device d on d.tenant_id = t.id and d.external_id = k.device
      order by d.id, k.client
      on conflict (device_id, client) do update set epoch = excluded.epoch, incarnation = excluded.incarnation,
        gateway = excluded.gateway, connected_at = excluded.connected_at, ended_at = excluded.ended_at, ending = excluded.ending
      where (excluded.epoch, excluded.incarnation, excluded.ended_at is not null) > (s.epoch, s.incarnation, s.ended_at is not null)`,
    values: [
      textArray(rows.map(({ event }) => event.tenant)),
      textArray(rows.map(({ event }) => event.device)),
      textArray(rows.map(({ session }) => session.client)),
      int8Array(rows.map(({ session }) => session.epoch)),
      int8Array(rows.map(({ session }) => session.incarnation)),
      textArray(rows.map(({ session }) => session.gateway)),
      timestamptzArray(rows.map(({ session }) => session.connectedUs)),
      ended.end(),
      textArray(rows.map(({ event: { kind } }) => (kind === 'connected' ? null : kind))),
    ],
  })
}

/** A gateway is seen when its sign of life is read; its events make it known, in case they are read first. */
async function writeInstances(
  client: pg.ClientBase,
  beats: readonly GatewayBeat[],
  sessions: readonly SessionRow[],
): Promise<void> {
  const seen = new Map<string, { gateway: string; incarnation: number; beats: boolean }>()
  for (const { session } of sessions)
    seen.set(`${session.incarnation} ${session.gateway}`, {
      gateway: session.gateway,
      incarnation: session.incarnation,
      beats: false,
    })
  for (const { gateway, incarnation } of beats)
    seen.set(`${incarnation} ${gateway}`, { gateway, incarnation, beats: true })
  for (const beats of [false, true]) {
    const some = [...seen.values()].filter((instance) => instance.beats === beats)
    if (some.length === 0) continue
    await client.query({
      name: beats ? 'gateway-beats' : 'gateway-instances',
      text: `insert into gateway_instance as g (name, incarnation)
        select name, incarnation from unnest($1::text[], $2::int8[]) as k(name, incarnation) order by 1, 2
        on conflict (name, incarnation) do ${beats ? 'update set seen_at = clock_timestamp()' : 'nothing'}`,
      values: [textArray(some.map(({ gateway }) => gateway)), int8Array(some.map(({ incarnation }) => incarnation))],
    })
  }
}
