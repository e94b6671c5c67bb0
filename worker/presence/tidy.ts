import type pg from 'pg'

const rowsAtOnce = 1000
const maxWaiting = 100_000

/** What the tables of device events need not keep, in small pieces; `mustStop` is asked between them. @returns deliveries that were given up */
export async function tidy(
  pool: Pick<pg.Pool, 'query'>,
  { eventsMs, deliveriesMs }: { readonly eventsMs: number | undefined; readonly deliveriesMs: number },
  mustStop: () => boolean,
): Promise<number> {
  const inPieces = async (text: string, values: unknown[] = []): Promise<number> => {
    let count = 0
    while (!mustStop()) {
      const { rowCount } = await pool.query(text.replaceAll('$rows', String(rowsAtOnce)), values)
      count += rowCount ?? 0
      if ((rowCount ?? 0) < rowsAtOnce) break
    }
    return count
  }
  if (eventsMs !== undefined)
    await inPieces(
      `delete from device_event where (device_id, time, id) in (
         select device_id, time, id from device_event where time < to_timestamp($1::float8 / 1000) order by time limit $rows)`,
      [Date.now() - eventsMs],
    )
  // Of a client that chose a new id each time nothing is needed but the last: the end of a connection stands behind its beginning in the log.
  await inPieces(
    `delete from session where (device_id, client) in (
       select s.device_id, s.client from session s where s.ended_at < clock_timestamp() - interval '1 day' and exists (
         select from session n where n.device_id = s.device_id and (n.ended_at is null or n.ended_at > s.ended_at))
       order by s.ended_at limit $rows)`,
  )
  await pool.query(
    `delete from gateway_instance g where g.ended_at < clock_timestamp() - interval '1 day'
       and not exists (select from session s where s.gateway = g.name and s.incarnation = g.incarnation and s.ended_at is null)`,
  )
  await inPieces(
    `delete from webhook_delivery where id in (
       select id from webhook_delivery where done_at < clock_timestamp() - interval '1 day' order by done_at limit $rows)`,
  )
  return await inPieces(
    `update webhook_delivery set done_at = clock_timestamp(), outcome = 'expired' where id in (
       select id from webhook_delivery where done_at is null and (created_at < to_timestamp($1::float8 / 1000)
         or id <= (select id from webhook_delivery where done_at is null order by id desc offset $2 limit 1))
       order by id limit $rows)`,
    [Date.now() - deliveriesMs, maxWaiting],
  )
}

/** Dead letters that are counted of the last five minutes: past it a flood is one. */
const countedLetters = 200_000

/** Tells the webhook of tenants with that many dead letters in five minutes, once an hour each. */
export async function tellFloods(client: Pick<pg.ClientBase, 'query'>, least: number): Promise<void> {
  await client.query(
    `insert into webhook_delivery (event_id, subject, body)
     select f.id, f.tenant, jsonb_build_object('id', f.id, 'kind', 'dead_letters', 'tenant', f.tenant,
       'time', to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
       'details', jsonb_build_object('count', f.count, 'seconds', 300))
     from (
       select tenant, count(*) as count, md5('dead_letters ' || tenant || ' ' || date_trunc('hour', clock_timestamp() at time zone 'UTC'))::uuid as id
       from (select tenant from dead_letter where ingest_time > clock_timestamp() - interval '5 minutes' limit $2) letters
       group by tenant having count(*) >= $1 limit 100
     ) f on conflict do nothing`,
    [least, countedLetters],
  )
}
