import type pg from 'pg'
import { tellWebhookSql } from '../store/device-events.ts'
import type { Reached } from './reach.ts'

const sessionsAtOnce = 2000

/** What a round needs to know of the settings. */
export interface EventRules {
  /** Of which kinds the webhook hears. */
  readonly webhookKinds: readonly string[]
}

/**
 * Ends gateways that have given no sign of life for the expiry, and makes their sessions lost: a gateway that was killed says nothing of them.
 * A device of which another client is connected is not told as lost.
 * @returns how many sessions were lost
 */
export async function loseSessions(
  client: pg.ClientBase,
  { asOfMs, wellMs }: Reached,
  { expirySeconds, webhookKinds }: EventRules & { readonly expirySeconds: number },
): Promise<number> {
  // Later by a sign of life: one that was on its way counts.
  if (wellMs >= expirySeconds * 1000)
    await client.query(
      `update gateway_instance set ended_at = clock_timestamp()
       where ended_at is null and seen_at < to_timestamp($1::float8 / 1000) - make_interval(secs => $2)`,
      [asOfMs, expirySeconds],
    )
  let lost = 0
  for (;;) {
    const { rows } = await client.query<{ count: number }>(loseSql, [sessionsAtOnce, webhookKinds])
    const count = rows[0]?.count ?? 0
    lost += count
    if (count < sessionsAtOnce) return lost
  }
}

/** Also those that were read after their gateway had ended. */
const loseSql = `with gone as (
    select s.device_id, s.client, s.epoch, s.gateway, greatest(s.connected_at, g.seen_at) as at, g.seen_at
    from session s join gateway_instance g on g.name = s.gateway and g.incarnation = s.incarnation
    where s.ended_at is null and g.ended_at is not null
    order by s.device_id, s.client limit $1 for update of s
  ), ended as (
    update session s set ended_at = gone.at, ending = 'lost' from gone
    where s.device_id = gone.device_id and s.client = gone.client returning s.device_id
  ), fresh as (
    insert into device_event (device_id, time, id, kind, epoch, details)
    select gone.device_id, clock_timestamp(), gen_random_uuid(), 'lost', gone.epoch,
      jsonb_build_object('client', gone.client, 'gateway', gone.gateway, 'reason', 'gateway_lost', 'gatewaySeen', gone.seen_at)
    from gone
    where not exists (
      select from session o where o.device_id = gone.device_id and o.ended_at is null
        and not exists (select from gone also where also.device_id = o.device_id and also.client = o.client)
    )
    returning device_id, time, id, kind, details
  ), told as (${tellWebhookSql('$2::text[]')})
  select count(*)::int as count from ended`

/** Of a database that one process writes to alone: whoever had sessions before it started is gone. */
export async function endAllGateways(client: Pick<pg.ClientBase, 'query'>): Promise<void> {
  await client.query('update gateway_instance set ended_at = clock_timestamp() where ended_at is null')
}
