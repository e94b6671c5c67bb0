import { randomUUID } from 'node:crypto'
import type pg from 'pg'
import type { DeadLetter } from '#schema/dead-letter.ts'
import { boolArray, byteaArray, int4Array, int8Array, textArray, timestamptzArray } from './array-parameter.ts'
import type { ParkedMessage } from './message.ts'
import type { PartitionProgress } from './offsets.ts'

const maxRows = 500
const maxBytes = 8_388_608
const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i
const latestUs = Date.UTC(2100, 0) * 1000

/** A row of `dead_letter` and the record that it came from. */
export interface DeadLetterRow {
  readonly deadLetter: Omit<DeadLetter, 'topic'> & { readonly topic: string | null }
  readonly offset: number
  readonly progress: PartitionProgress
}

/** A decoded message that the store parks: its bytes are its JSON, since the device's own are not known here. */
export function deadLetterOf({ source, code, message }: ParkedMessage): DeadLetterRow['deadLetter'] {
  const { event } = source
  return {
    id: event.id,
    tenant: event.tenant,
    device: event.device,
    source: event.source,
    topic: null,
    contentType: 'application/json',
    stage: 'store',
    code,
    message,
    acknowledged: true,
    ingestTimeUs: event.ingestTimeUs,
    payload: Buffer.from(JSON.stringify(event)),
  }
}

/**
 * Inserts dead letters; those that are there already (the log may hold one twice) are left as they are.
 * Whatever they hold they can be stored: it is the last place a message can go.
 * @returns the rows that are new
 */
export async function insertDeadLetters(
  client: pg.ClientBase,
  rows: readonly DeadLetterRow[],
): Promise<readonly DeadLetterRow[]> {
  const fresh: DeadLetterRow[] = []
  for (let from = 0; from < rows.length; ) {
    let to = from
    for (let bytes = 0; to < rows.length && to - from < maxRows && (to === from || bytes < maxBytes); to++)
      bytes += rows[to]?.deadLetter.payload?.length ?? 0
    fresh.push(...(await insertSome(client, rows.slice(from, to))))
    from = to
  }
  return fresh
}

async function insertSome(client: pg.ClientBase, rows: readonly DeadLetterRow[]): Promise<DeadLetterRow[]> {
  const ids = rows.map(({ deadLetter }) => (uuid.test(deadLetter.id) ? deadLetter.id.toLowerCase() : randomUUID()))
  const texts = (read: (letter: DeadLetterRow['deadLetter']) => string | null | undefined) =>
    textArray(rows.map(({ deadLetter }) => storable(read(deadLetter))))
  const required = (read: (letter: DeadLetterRow['deadLetter']) => string) => texts((letter) => read(letter) ?? '')
  const result = await client.query<{ id: string }>({
    name: 'dead-letters',
    text: `insert into dead_letter (id, stream, partition, record_offset, tenant, device, source, topic, content_type, stage, code,
        message, acknowledged, ingest_time, payload, context)
      select id::uuid, stream, partition, record_offset, tenant, device, source, topic, content_type, stage, code,
        message, acknowledged, ingest_time, payload, context::jsonb
      from unnest($1::text[], $2::text[], $3::int4[], $4::int8[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
        $10::text[], $11::text[], $12::text[], $13::bool[], $14::timestamptz[], $15::bytea[], $16::text[])
        as k(id, stream, partition, record_offset, tenant, device, source, topic, content_type, stage, code,
          message, acknowledged, ingest_time, payload, context)
      on conflict do nothing returning id`,
    values: [
      textArray(ids),
      textArray(rows.map(({ progress }) => progress.stream)),
      int4Array(rows.map(({ progress }) => progress.partition)),
      int8Array(rows.map(({ offset }) => offset)),
      required(({ tenant }) => tenant),
      required(({ device }) => device),
      required(({ source }) => source),
      texts(({ topic }) => topic),
      texts(({ contentType }) => contentType),
      required(({ stage }) => stage),
      required(({ code }) => code),
      required(({ message }) => message),
      boolArray(rows.map(({ deadLetter }) => deadLetter.acknowledged)),
      timestamptzArray(rows.map(({ deadLetter }) => storableTime(deadLetter.ingestTimeUs))),
      byteaArray(rows.map(({ deadLetter }) => deadLetter.payload)),
      textArray(rows.map(({ deadLetter }) => storableJson(deadLetter.context))),
    ],
  })
  const inserted = new Set(result.rows.map(({ id }) => id))
  // Two of one id in the same statement: only the first is new.
  return rows.filter((_, index) => inserted.delete(ids[index] as string))
}

/** Postgres knows no U+0000; the payload keeps the true bytes. */
function storable(text: unknown): string | null {
  if (text === null || text === undefined) return null
  return String(text).replaceAll('\u0000', '\ufffd')
}

/** jsonb takes neither U+0000 nor half a surrogate pair. */
function storableJson(context: unknown): string | null {
  if (context === undefined || context === null) return null
  return JSON.stringify(context).replace(/\\u0000|\\ud[89a-f][0-9a-f]{2}/gi, '\\ufffd')
}

/** As the row of a dead letter has it. */
export function storableTime(us: unknown): number {
  return Number.isSafeInteger(us) && (us as number) >= 0 && (us as number) < latestUs
    ? (us as number)
    : Date.now() * 1000
}
