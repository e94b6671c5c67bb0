import type { DeadLetterContext } from '#schema/dead-letter.ts'
import type { Source } from '#schema/telemetry-event.ts'
import type { ParkedLetter, Replayed, SenderRights } from '../../dead-letters/replayer.ts'
import { writeAudit } from './audit.ts'
import { type Change, type Client, inTransaction } from './change.ts'
import { invalid, missing } from './refusal.ts'
import { momentOf } from './times.ts'

/** Which dead letters; all that fit every part that is given. */
export interface LetterFilter {
  readonly ids?: readonly string[] | undefined
  readonly tenant?: string | undefined
  readonly device?: string | undefined
  readonly code?: string | undefined
  /** The whole topic or path, or its beginning where it ends in `*`. */
  readonly topic?: string | undefined
  /** `2h` ago, or an ISO time: arrivals from then on. */
  readonly since?: string | undefined
  readonly until?: string | undefined
}

export type LetterState = 'waiting' | 'replayed' | 'all'

export interface LetterRow {
  readonly id: string
  readonly arrived: string
  readonly tenant: string
  readonly device: string
  readonly source: Source
  readonly topic: string | null
  readonly stage: 'decode' | 'store'
  readonly code: string
  readonly message: string
  readonly bytes: number | null
  /** Whether the sender was told that we have it. */
  readonly acknowledged: boolean
  readonly replayed: string | null
  readonly outcome: string | null
}

export interface ShownLetter extends LetterRow {
  readonly contentType: string | null
  readonly context: DeadLetterContext | null
  readonly payload: Buffer | null
}

export interface Page {
  readonly limit: number
  /** The last of the page before. */
  readonly after?: string | undefined
}

const iso = (column: string) => `to_char(${column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`
const columns = `id, ${iso('ingest_time')} AS arrived, tenant, device, source, topic, stage, code, message, octet_length(payload) AS bytes,
  acknowledged, ${iso('replayed_at')} AS replayed, replay_outcome AS outcome`

/** The newest first. */
export async function listLetters(
  client: Client,
  filter: LetterFilter,
  { limit, after, state }: Page & { readonly state: LetterState },
): Promise<LetterRow[]> {
  const where = new Where(filter)
  where.state(state)
  if (after !== undefined)
    where.add((value) => `(ingest_time, id) < (SELECT ingest_time, id FROM dead_letter WHERE id = ${value})`, after)
  const { rows } = await client.query<LetterRow>(
    `SELECT ${columns} FROM dead_letter ${where} ORDER BY ingest_time DESC, id DESC LIMIT ${limit}`,
    where.values,
  )
  return rows
}

/** How many there are of each code. */
export async function countLetters(
  client: Client,
  filter: LetterFilter,
  state: LetterState,
): Promise<{ code: string; letters: number; bytes: number }[]> {
  const where = new Where(filter)
  where.state(state)
  const { rows } = await client.query(
    `SELECT code, count(*)::int AS letters, coalesce(sum(octet_length(payload)), 0)::float8 AS bytes FROM dead_letter ${where}
     GROUP BY code ORDER BY letters DESC, code`,
    where.values,
  )
  return rows
}

/** @throws BridgeError BRIDGE_USAGE when it is not there */
export async function showLetter(client: Client, id: string): Promise<ShownLetter> {
  const where = new Where({ ids: [id] })
  const { rows } = await client.query<ShownLetter>(
    `SELECT ${columns}, content_type AS "contentType", context, payload FROM dead_letter ${where}`,
    where.values,
  )
  const [letter] = rows
  if (letter === undefined)
    throw missing(`there is no dead letter ${id}: it was purged, or is older than they are kept`)
  return letter
}

/**
 * Deletes them, bytes and all.
 * @param dryRun only counts
 * @throws BridgeError BRIDGE_USAGE when the filter names nothing: that would be all of them
 */
export async function purgeLetters(
  client: Client,
  by: Change,
  filter: LetterFilter,
  { state, dryRun, all = false }: { readonly state: LetterState; readonly dryRun: boolean; readonly all?: boolean },
): Promise<number> {
  const where = new Where(filter)
  if (where.isEmpty && !all) throw invalid('name which to purge (a device, code, topic, time or ids), or all of them')
  where.state(state)
  if (dryRun) {
    const { rows } = await client.query(`SELECT count(*)::int AS n FROM dead_letter ${where}`, where.values)
    return rows[0].n
  }
  let purged = 0
  for (;;) {
    const count = await inTransaction(client, async () => {
      const { rowCount } = await client.query(
        `DELETE FROM dead_letter WHERE id IN (SELECT id FROM dead_letter ${where} ORDER BY ingest_time LIMIT ${purgedAtOnce})`,
        where.values,
      )
      const letters = rowCount ?? 0
      if (letters > 0) await auditLetters(client, by, 'dead-letter.purge', filter, letters)
      return letters
    })
    purged += count
    if (count < purgedAtOnce) return purged
  }
}

const purgedAtOnce = 1000

/** Payloads of one page: past it the page is shorter. */
const bytesAtOnce = 16_777_216

/** The oldest first, of those that wait; with what their senders may do today. */
export async function lettersToReplay(
  client: Client,
  filter: LetterFilter,
  { limit, after }: Page,
): Promise<ParkedLetter[]> {
  const where = new Where(filter)
  where.state('waiting')
  if (after !== undefined)
    where.add((value) => `(ingest_time, id) > (SELECT ingest_time, id FROM dead_letter WHERE id = ${value})`, after)
  const { rows } = await client.query<
    Omit<ParkedLetter, 'sender'> & { enabled: boolean | null; patterns: (string | null)[] }
  >(
    `SELECT l.id, l.tenant, l.device, l.source, l.topic, l.content_type AS "contentType", l.stage,
       (extract(epoch FROM l.ingest_time) * 1000000)::float8 AS "ingestTimeUs", l.payload, l.context, d.status = 'enabled' AS enabled,
       ARRAY(SELECT c.pattern FROM credential c WHERE c.device_id = d.id AND c.fleet AND c.revoked_at IS NULL
         AND (c.expires_at IS NULL OR c.expires_at > now())) AS patterns
     FROM (
       SELECT id, sum(octet_length(payload)) OVER (ORDER BY ingest_time, id) - octet_length(payload) AS bytes_before
       FROM dead_letter ${where} ORDER BY ingest_time, id LIMIT ${limit}
     ) page
     JOIN dead_letter l ON l.id = page.id AND coalesce(page.bytes_before, 0) < ${bytesAtOnce}
     LEFT JOIN tenant t ON t.name = l.tenant
     LEFT JOIN device d ON d.tenant_id = t.id AND d.external_id = coalesce(l.context ->> 'sender', l.device)
     ORDER BY l.ingest_time, l.id`,
    where.values,
  )
  return rows.map(({ enabled, patterns, ...letter }) => {
    const sender: SenderRights | undefined = enabled === null ? undefined : { enabled, patterns }
    return { ...letter, sender }
  })
}

/** Before they are sent: what comes of it now is of this replay. */
export async function markTried(
  client: Client,
  by: Change,
  filter: LetterFilter,
  ids: readonly string[],
): Promise<void> {
  if (ids.length === 0) return
  await inTransaction(client, async () => {
    await client.query(
      `UPDATE dead_letter SET tried_at = clock_timestamp(), replay_outcome = NULL WHERE id = ANY($1::uuid[]) AND replayed_at IS NULL`,
      [ids],
    )
    await auditLetters(client, by, 'dead-letter.replay', filter, ids.length)
  })
}

/** After: those that the gateway itself could not make messages of, or had nothing to make of. */
export async function markReplayed(client: Client, replayed: readonly Replayed[]): Promise<void> {
  const ignored = replayed.filter(({ kind }) => kind === 'ignored').map(({ id }) => id)
  const parked = replayed.filter((one) => one.kind === 'parked')
  if (ignored.length > 0)
    await client.query(
      `UPDATE dead_letter SET replayed_at = clock_timestamp(), replay_outcome = 'ignored' WHERE id = ANY($1::uuid[]) AND replayed_at IS NULL`,
      [ignored],
    )
  if (parked.length > 0)
    await client.query(
      `UPDATE dead_letter d SET replay_outcome = 'parked', code = k.code, message = k.message
       FROM unnest($1::uuid[], $2::text[], $3::text[]) AS k (id, code, message) WHERE d.id = k.id AND d.replayed_at IS NULL`,
      [
        parked.map(({ id }) => id),
        parked.map(({ code }) => code),
        parked.map(({ message }) => message.replaceAll('\0', '\u{fffd}')),
      ],
    )
}

export interface LetterOutcomes {
  readonly stored: number
  readonly duplicate: number
  readonly ignored: number
  readonly parked: number
  /** The worker has not written them yet. */
  readonly pending: number
}

/** What became of these, as far as it is written. */
export async function outcomesOf(client: Client, ids: readonly string[]): Promise<LetterOutcomes> {
  const { rows } = await client.query<{ outcome: keyof LetterOutcomes | null; n: number }>(
    `SELECT replay_outcome AS outcome, count(*)::int AS n FROM dead_letter WHERE id = ANY($1::uuid[]) GROUP BY 1`,
    [ids],
  )
  const outcomes = { stored: 0, duplicate: 0, ignored: 0, parked: 0, pending: 0 }
  for (const { outcome, n } of rows) outcomes[outcome ?? 'pending'] += n
  return outcomes
}

/** What a dead letter weighs beside its bytes. */
export const letterOverhead = 256

/**
 * Bytes that wait, of tenants (`tenant`) and devices (`tenant/device`). Owners below a tenth of their quota are left out: there may be a million.
 */
export async function parkedBytes(
  client: Client,
  { deviceBytes, tenantBytes }: { readonly deviceBytes: number; readonly tenantBytes: number },
): Promise<Map<string, number>> {
  const { rows } = await client.query<{ owner: string; bytes: number }>(
    `SELECT CASE WHEN grouping(device) = 1 THEN tenant ELSE tenant || '/' || device END AS owner,
       sum(coalesce(octet_length(payload), 0) + ${letterOverhead})::float8 AS bytes
     FROM dead_letter WHERE replayed_at IS NULL
     GROUP BY GROUPING SETS ((tenant, device), (tenant))
     HAVING sum(coalesce(octet_length(payload), 0) + ${letterOverhead}) >= CASE WHEN grouping(device) = 1 THEN $1::float8 ELSE $2::float8 END / 10`,
    [tenantBytes, deviceBytes],
  )
  return new Map(rows.map(({ owner, bytes }) => [owner, bytes]))
}

async function auditLetters(
  client: Client,
  by: Change,
  action: 'dead-letter.replay' | 'dead-letter.purge',
  { ids, ...filter }: LetterFilter,
  letters: number,
): Promise<void> {
  const details = { ...filter, ...(ids !== undefined && { ids: ids.slice(0, 10) }), letters }
  await writeAudit(client, by, action, [
    { tenant: filter.tenant ?? null, subject: filter.device ?? 'dead letters', details },
  ])
}

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/** A WHERE clause whose values are parameters. */
class Where {
  readonly values: unknown[] = []
  readonly #parts: string[] = []

  constructor({ ids, tenant, device, code, topic, since, until }: LetterFilter) {
    const wrong = ids?.find((id) => !uuid.test(id))
    if (wrong !== undefined) throw invalid(`${JSON.stringify(wrong.slice(0, 60))} is no id of a dead letter`)
    if (ids !== undefined) this.add((value) => `id = ANY(${value}::uuid[])`, ids)
    if (tenant !== undefined) this.add((value) => `tenant = ${value}`, tenant)
    if (device !== undefined) this.add((value) => `device = ${value}`, device)
    if (code !== undefined) this.add((value) => `code = ${value}`, code)
    if (topic?.endsWith('*')) this.add((value) => `starts_with(topic, ${value})`, topic.slice(0, -1))
    else if (topic !== undefined) this.add((value) => `topic = ${value}`, topic)
    if (since !== undefined) this.add((value) => `ingest_time >= ${value}`, momentOf(since, 'the time since when'))
    if (until !== undefined) this.add((value) => `ingest_time < ${value}`, momentOf(until, 'the time until when'))
  }

  get isEmpty(): boolean {
    return this.#parts.length === 0
  }

  add(part: (value: string) => string, value: unknown): void {
    this.values.push(value)
    this.#parts.push(part(`$${this.values.length}`))
  }

  state(state: LetterState): void {
    if (state !== 'all') this.#parts.push(`replayed_at IS ${state === 'waiting' ? '' : 'NOT '}NULL`)
  }

  toString(): string {
    return this.#parts.length === 0 ? '' : `WHERE ${this.#parts.join(' AND ')}`
  }
}
