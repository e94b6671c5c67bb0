import type pg from 'pg'
import type { RawMessage, TelemetryEvent } from '#schema/telemetry-event.ts'
import type { Message } from './message.ts'

const dayUs = 86_400_000_000
/** A gateway keeps less; what another writer brings shall have an end, too. */
const maxPayload = 131_072
const maxKeepDays = 31

/** Days since the epoch on which the bytes of these messages are to be dropped, without those that have come. */
export function rawDaysOf(messages: readonly Message[], nowMs = Date.now()): ReadonlySet<number> {
  const days = new Set<number>()
  for (const { event } of messages) {
    const day = event.raw === undefined ? undefined : dropDayOf(event, nowMs)
    if (day !== undefined) days.add(day)
  }
  return days
}

/**
 * Keeps the bytes of messages beside their rows, in their transaction; those of duplicates are there already.
 * @param isNew whether the message of this index brought new readings
 */
export async function keepRaw(
  client: pg.ClientBase,
  messages: readonly Message[],
  isNew: (index: number) => boolean,
): Promise<void> {
  const nowMs = Date.now()
  const kept = messages.flatMap(({ event }, index) => {
    const day = event.raw !== undefined && isNew(index) && isSound(event.raw) ? dropDayOf(event, nowMs) : undefined
    return day === undefined ? [] : [{ event, raw: event.raw as RawMessage, day }]
  })
  if (kept.length === 0) return
  await client.query({
    name: 'keep-raw',
    text: `insert into raw_message (device_id, ingest_time, event_id, drop_day, source, topic, content_type, context, payload, readings)
      select d.id, timestamptz 'epoch' + g.ingest_us * interval '1 microsecond', g.id, g.day, g.source, g.topic, g.content_type, g.context,
        decode(g.payload, 'base64'), g.readings
      from unnest($1::text[], $2::text[], $3::float8[], $4::uuid[], $5::date[], $6::text[], $7::text[], $8::text[], $9::jsonb[], $10::text[], $11::jsonb[])
        as g (tenant, device, ingest_us, id, day, source, topic, content_type, context, payload, readings)
      join tenant t on t.name = g.tenant join device d on d.tenant_id = t.id and d.external_id = g.device
      on conflict do nothing`,
    values: [
      kept.map(({ event }) => event.tenant),
      kept.map(({ event }) => event.device),
      kept.map(({ event }) => event.ingestTimeUs),
      kept.map(({ event }) => event.id),
      kept.map(({ day }) => new Date(day * 86_400_000).toISOString().slice(0, 10)),
      kept.map(({ event }) => event.source),
      kept.map(({ raw }) => raw.topic),
      kept.map(({ raw }) => raw.contentType ?? null),
      kept.map(({ raw }) => (raw.context === undefined ? null : JSON.stringify(raw.context))),
      kept.map(({ raw }) => raw.payload),
      kept.map(({ event }) => JSON.stringify(event.readings)),
    ],
  })
}

function dropDayOf({ ingestTimeUs, raw }: TelemetryEvent, nowMs: number): number | undefined {
  const days = raw?.keepDays ?? 0
  if (!(Number.isSafeInteger(days) && days > 0 && days <= maxKeepDays)) return undefined
  const day = Math.floor(ingestTimeUs / dayUs) + days + 1
  return day > Math.floor(nowMs / 86_400_000) ? day : undefined
}

/** Whether Postgres takes it: its neighbours must not fail for bytes that are only kept. */
function isSound(raw: RawMessage): boolean {
  if (typeof raw !== 'object' || raw === null) return false
  const { topic, contentType, context, payload } = raw
  if (!isText(topic) || (contentType !== undefined && !isText(contentType))) return false
  if (typeof payload !== 'string' || payload.length > maxPayload || !/^[A-Za-z0-9+/]*={0,2}$/.test(payload))
    return false
  if (payload.length % 4 !== 0) return false
  // Escapes that JSON has and jsonb refuses.
  return context === undefined || !/\\u(0000|d[89a-f])/i.test(JSON.stringify(context))
}

function isText(text: unknown): boolean {
  return typeof text === 'string' && text.length <= 65_536 && text.isWellFormed() && !text.includes('\0')
}
