import type pg from 'pg'
import { tellWebhookSql } from '../store/device-events.ts'
import type { EventRules } from './lost-gateways.ts'
import type { Reached } from './reach.ts'
import { type SilenceBounds, silentAfter } from './silent-after.ts'

export interface SilenceRules extends SilenceBounds, EventRules {}

const enrolAtOnce = 1000
const learnAtOnce = 50
const lookAtOnce = 2000
/** Arrivals that are looked at, and how far back. */
const arrivals = 500
const historyDays = 14
const silentLookSeconds = 5
const learnAgainSeconds = 3600
const tryAgainSeconds = 600

/** Devices that the registry has got since the last round; all that were left out, when asked for. */
export async function enrol(client: pg.ClientBase, all: boolean): Promise<void> {
  const which = all
    ? 'not exists (select from device_watch w where w.device_id = d.id)'
    : 'd.id > (select coalesce(max(device_id), 0) from device_watch)'
  await client.query(
    `insert into device_watch (device_id) select d.id from device d where ${which} order by d.id limit $1 on conflict do nothing`,
    [enrolAtOnce],
  )
}

interface Due {
  readonly id: number
  readonly deviceSeconds: number | null
  readonly typeSeconds: number | null
  readonly arrivals: number[] | null
}

/**
 * Finds out how long some devices may be still: what was said of the device or its type, or else what its history shows. The arrivals of the metric
 * that came last are looked at, since one message may carry many.
 */
export async function learn(client: pg.ClientBase, bounds: SilenceBounds): Promise<void> {
  const { rows } = await client.query<Due>({
    name: 'learn-silence',
    text: `with due as (
        select device_id from device_watch where learn_at < clock_timestamp() and silent_since is null
        order by learn_at limit $1 for update skip locked
      )
      select due.device_id as id,
        case when jsonb_typeof(d.attributes -> 'silentAfterSeconds') = 'number'
          then (d.attributes ->> 'silentAfterSeconds')::float8 end as "deviceSeconds",
        y.silent_after_seconds as "typeSeconds", a.arrivals
      from due join device d on d.id = due.device_id
      left join device_type y on y.tenant_id = d.tenant_id and y.name = d.type
      left join lateral (select l.metric_id from latest l where l.device_id = d.id order by l.ingest_time desc limit 1) m on true
      left join lateral (
        select array_agg(distinct extract(epoch from newest.ingest_time)::float8) as arrivals from (
          select r.ingest_time from reading r
          where r.device_id = d.id and r.metric_id = m.metric_id and r.event_time > now() - make_interval(days => $2)
          order by r.event_time desc limit $3
        ) newest
      ) a on m.metric_id is not null`,
    values: [learnAtOnce, historyDays, arrivals],
  })
  if (rows.length === 0) return
  const learnt = rows.map((due) => ({ id: due.id, ...judge(due, bounds) }))
  // With some hazard, so that devices that were added together are not learnt together for ever.
  await client.query(
    `update device_watch w set silent_after_seconds = k.seconds, origin = k.origin,
       look_at = case when w.silent_after_seconds is distinct from k.seconds then clock_timestamp() else w.look_at end,
       learn_at = clock_timestamp() + make_interval(secs => (0.5 + random()) * case when k.origin is null then $4::float8 else $5::float8 end)
     from unnest($1::int4[], $2::float8[], $3::text[]) as k(id, seconds, origin) where w.device_id = k.id`,
    [
      learnt.map(({ id }) => id),
      learnt.map(({ seconds }) => seconds),
      learnt.map(({ origin }) => origin),
      tryAgainSeconds,
      learnAgainSeconds,
    ],
  )
}

function judge(
  { deviceSeconds, typeSeconds, arrivals: found }: Due,
  bounds: SilenceBounds,
): { seconds: number | null; origin: 'device' | 'type' | 'learnt' | null } {
  // 0, or less: it may be still for ever.
  if (deviceSeconds !== null) return { seconds: deviceSeconds > 0 ? deviceSeconds : null, origin: 'device' }
  if (typeSeconds !== null) return { seconds: typeSeconds > 0 ? typeSeconds : null, origin: 'type' }
  const seconds = silentAfter(found ?? [], bounds)
  return seconds === undefined ? { seconds: null, origin: null } : { seconds, origin: 'learnt' }
}

/**
 * Looks at the devices whose time has come: those that nothing was heard of become silent, and silent ones of which something came are back.
 * @returns how many became silent and came back
 */
export async function look(
  client: pg.ClientBase,
  { asOfMs }: Pick<Reached, 'asOfMs'>,
  { webhookKinds }: EventRules,
): Promise<{ silent: number; back: number }> {
  const { rows } = await client.query<{ silent: number; back: number }>({
    name: 'look-for-silence',
    text: `with due as (
        select device_id, silent_after_seconds as seconds, silent_since from device_watch
        where look_at < clock_timestamp() order by look_at limit $1 for update skip locked
      ), seen as (
        select due.*, l.at, d.status = 'enabled' and due.seconds is not null and l.at is not null as watched,
          l.at + make_interval(secs => due.seconds) as until
        from due join device d on d.id = due.device_id
        cross join lateral (select max(ingest_time) as at from latest where device_id = due.device_id) l
      ), judged as (
        select *, watched and silent_since is null and until < to_timestamp($2::float8 / 1000) as becomes_silent,
          watched and at > silent_since as is_back
        from seen
      ), moved as (
        update device_watch w set last_seen = j.at,
          silent_since = case when j.becomes_silent then j.at when j.is_back or not j.watched then null else j.silent_since end,
          look_at = case
            when not j.watched then clock_timestamp() + interval '1 hour'
            when j.becomes_silent or (j.silent_since is not null and not j.is_back)
              then clock_timestamp() + make_interval(secs => $4::float8)
            else greatest(j.until, clock_timestamp() + interval '1 second') end
        from judged j where w.device_id = j.device_id
      ), fresh as (
        insert into device_event (device_id, time, id, kind, details)
        select device_id, case when becomes_silent then to_timestamp($2::float8 / 1000) else at end, gen_random_uuid(),
          case when becomes_silent then 'silent' else 'back' end,
          jsonb_build_object('lastSeen', case when becomes_silent then at else silent_since end, 'silentAfterSeconds', seconds)
        from judged where becomes_silent or is_back
        returning device_id, time, id, kind, details
      ), told as (${tellWebhookSql('$3::text[]')})
      select count(*) filter (where kind = 'silent')::int as silent, count(*) filter (where kind = 'back')::int as back from fresh`,
    values: [lookAtOnce, asOfMs, webhookKinds, silentLookSeconds],
  })
  return rows[0] ?? { silent: 0, back: 0 }
}

/** @returns how many devices of each tenant are silent */
export async function countSilent(client: Pick<pg.ClientBase, 'query'>): Promise<Map<string, number>> {
  const { rows } = await client.query<{ tenant: string; count: number }>(
    `select t.name as tenant, count(*)::int as count from device_watch w join device d on d.id = w.device_id
     join tenant t on t.id = d.tenant_id where w.silent_since is not null group by 1`,
  )
  return new Map(rows.map(({ tenant, count }) => [tenant, count]))
}
