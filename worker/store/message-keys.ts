import { hash } from 'node:crypto'
import type pg from 'pg'
import type { TelemetryEvent } from '#schema/telemetry-event.ts'
import { boolArray, int4Array, timestamptzArray, uuidArray } from './array-parameter.ts'
import type { Message } from './message.ts'
import type { ResolvedNames } from './resolve-names.ts'

/**
 * How long after a delivery its re-send is looked for. Clients re-send what is unacknowledged when they come back; packet ids that go round
 * (65,535 messages) must not get here first.
 */
export const deliveryWindowUs = 3_600_000_000

/** What one message is called. A `name` that was seen makes it a duplicate; a `delivery` does so only for a re-send. */
interface Key {
  readonly kind: 'name' | 'delivery'
  readonly deviceId: number
  readonly bytes: Buffer
  readonly resend: boolean
  readonly ingestTimeUs: number
}

/** What is known of a key. */
interface Known {
  ingestTimeUs: number
  repeated: boolean
}

/** Whether anything but the readings tells a message from another. Asked of every message, so it only looks. */
export function isKeyed({ messageKey, identity, deliveryKey, replayOf }: TelemetryEvent): boolean {
  return messageKey !== undefined || deliveryKey !== undefined || identity !== undefined || replayOf !== undefined
}

/**
 * Names of messages, as the batch and `recent_message` hold them. Read before the readings are planned; what is new is written with them, in the
 * same transaction. docs/decisions/0010 says which message is known by what.
 */
export class MessageKeys {
  /** By index of the message; most have none. */
  readonly #keys = new Map<number, readonly Key[]>()
  readonly #known = new Map<string, Known>()
  readonly #changed = new Map<string, { readonly key: Key; readonly known: Known }>()

  /** @returns undefined when no message has a key, and then nothing is to be done */
  static async read(
    client: pg.ClientBase,
    messages: readonly Message[],
    { deviceIds, parked }: ResolvedNames,
  ): Promise<MessageKeys | undefined> {
    const keys = new MessageKeys()
    const asked: Key[] = []
    for (let index = 0; index < messages.length; index++) {
      const { event } = messages[index] as Message
      if (!isKeyed(event) || parked.has(index)) continue
      const own = keysOf(event, deviceIds[index] as number)
      keys.#keys.set(index, own)
      asked.push(...own)
    }
    if (asked.length === 0) return undefined
    await keys.#read(client, asked)
    return keys
  }

  /** Whether the message is one that was stored before, or stands before this one in the batch. */
  isDuplicate(index: number): boolean {
    const keys = this.#keys.get(index)
    if (keys === undefined) return false
    for (const key of keys) {
      const known = this.#known.get(nameOf(key))
      if (known === undefined) continue
      if (key.kind === 'name') return true
      if (key.resend && !known.repeated && isWithin(known, key)) return true
    }
    return false
  }

  /** The message goes in: from here on its names are taken. */
  take(index: number): void {
    for (const key of this.#keys.get(index) ?? []) {
      const name = nameOf(key)
      const before = this.#known.get(name)
      // The log may hold one record twice: that is no second message.
      const again = before !== undefined && before.ingestTimeUs !== key.ingestTimeUs && isWithin(before, key)
      const known = { ingestTimeUs: key.ingestTimeUs, repeated: key.kind === 'delivery' && again }
      this.#known.set(name, known)
      this.#changed.set(name, { key, known })
    }
  }

  /** Writes the names that were taken. Resolves to false when another transaction wrote one meanwhile. */
  async write(client: pg.ClientBase): Promise<boolean> {
    if (this.#changed.size === 0) return true
    const changed = [...this.#changed.values()].sort(
      (a, b) => a.key.deviceId - b.key.deviceId || a.key.bytes.compare(b.key.bytes),
    )
    const names = changed.filter(({ key }) => key.kind === 'name')
    const deliveries = changed.filter(({ key }) => key.kind === 'delivery')
    const written = await Promise.all([
      names.length === 0 ? 0 : insert(client, names, 'nothing'),
      deliveries.length === 0
        ? 0
        : insert(client, deliveries, 'update set ingest_time = excluded.ingest_time, repeated = excluded.repeated'),
    ])
    return written[0] === names.length
  }

  async #read(client: pg.ClientBase, keys: readonly Key[]): Promise<void> {
    const { rows } = await client.query<{ at: string; us: string; repeated: boolean }>({
      name: 'recent-messages',
      // One index look-up a key and day; OFFSET 0 keeps the planner from joining otherwise.
      text: `select k.at, (extract(epoch from r.ingest_time) * 1000000)::int8 as us, r.repeated
        from unnest($1::int4[], $2::uuid[]) with ordinality as k(device_id, message_key, at)
        cross join lateral (
          select ingest_time, repeated from recent_message e
          where e.device_id = k.device_id and e.message_key = k.message_key order by e.stored_day desc limit 1 offset 0
        ) r`,
      values: [int4Array(keys.map(({ deviceId }) => deviceId)), uuidArray(keys.map(({ bytes }) => bytes))],
    })
    for (const { at, us, repeated } of rows)
      this.#known.set(nameOf(keys[Number(at) - 1] as Key), { ingestTimeUs: Number(us), repeated })
  }
}

async function insert(
  client: pg.ClientBase,
  rows: readonly { readonly key: Key; readonly known: Known }[],
  onConflict: string,
): Promise<number | null> {
  const { rowCount } = await client.query({
    name: `recent-messages ${onConflict.slice(0, 7)}`,
    text: `insert into recent_message (device_id, stored_day, message_key, ingest_time, repeated)
      select device_id, (now() at time zone 'UTC')::date, message_key, ingest_time, repeated
      from unnest($1::int4[], $2::uuid[], $3::timestamptz[], $4::bool[]) as k(device_id, message_key, ingest_time, repeated)
      on conflict (device_id, message_key, stored_day) do ${onConflict}`,
    values: [
      int4Array(rows.map(({ key }) => key.deviceId)),
      uuidArray(rows.map(({ key }) => key.bytes)),
      timestamptzArray(rows.map(({ known }) => known.ingestTimeUs)),
      boolArray(rows.map(({ known }) => known.repeated)),
    ],
  })
  return rowCount
}

/** U+0000, which no key of a sender holds, keeps our own names apart from theirs. */
function keysOf(event: TelemetryEvent, deviceId: number): Key[] {
  const { id, messageKey, identity, deliveryKey, resend = false, replayOf, ingestTimeUs } = event
  const keys: Key[] = []
  const add = (kind: Key['kind'], text: string) =>
    keys.push({ kind, deviceId, bytes: hash('sha256', text, 'buffer').subarray(0, 16), resend, ingestTimeUs })
  if (messageKey !== undefined) add('name', messageKey)
  if (replayOf !== undefined) add('name', `\0replay ${replayOf}`)
  // Its values do not tell: the log may hold the record twice, and then only its own id does.
  if (identity === 'message' && messageKey === undefined && replayOf === undefined) add('name', `\0event ${id}`)
  if (deliveryKey !== undefined && messageKey === undefined) add('delivery', `\0delivery ${deliveryKey}`)
  return keys
}

function nameOf({ deviceId, bytes }: Key): string {
  return `${deviceId} ${bytes.toString('latin1')}`
}

function isWithin(known: Known, { ingestTimeUs }: Key): boolean {
  return Math.abs(ingestTimeUs - known.ingestTimeUs) <= deliveryWindowUs
}
