import type pg from 'pg'
import { textArray } from './array-parameter.ts'

/** What became of one message of a replayed dead letter. */
export interface ReplayedMessage {
  readonly deadLetterId: string
  readonly outcome: 'stored' | 'duplicate' | 'parked'
  /** Why it is parked again. */
  readonly code?: string
  readonly message?: string
}

const ranks = { duplicate: 0, stored: 1, parked: 2 } as const

/**
 * Marks dead letters with what their replay came to, in the transaction of the rows. A dead letter may be messages of several devices: as long
 * as one of them is parked, it waits, and the next replay finds the others stored.
 * @returns the ids that are there
 */
export async function markReplayed(
  client: pg.ClientBase,
  replayed: readonly ReplayedMessage[],
): Promise<ReadonlySet<string>> {
  if (replayed.length === 0) return new Set()
  const marks = new Map<string, ReplayedMessage>()
  for (const one of replayed) {
    const other = marks.get(one.deadLetterId)
    if (other === undefined || ranks[one.outcome] > ranks[other.outcome]) marks.set(one.deadLetterId, one)
  }
  // Sorted, so that two transactions with parts of the same dead letters wait for each other in one direction only.
  const sorted = [...marks.values()].sort((a, b) => (a.deadLetterId < b.deadLetterId ? -1 : 1))
  await client.query('select 1 from dead_letter where id = any($1::text[]::uuid[]) order by id for update', [
    textArray(sorted.map(({ deadLetterId }) => deadLetterId)),
  ])
  const { rows } = await client.query<{ id: string }>({
    name: 'replayed',
    text: `update dead_letter d set
        replay_outcome = case
          when k.outcome = 'parked' or d.replay_outcome = 'parked' then 'parked'
          when d.replay_outcome = 'stored' then 'stored' else k.outcome end,
        replayed_at = case when k.outcome = 'parked' or d.replay_outcome = 'parked' then null else clock_timestamp() end,
        code = coalesce(k.code, d.code), message = coalesce(k.message, d.message)
      from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as k(id, outcome, code, message)
      where d.id = k.id::uuid returning d.id`,
    values: [
      textArray(sorted.map(({ deadLetterId }) => deadLetterId)),
      textArray(sorted.map(({ outcome }) => outcome)),
      textArray(sorted.map(({ code }) => code ?? null)),
      textArray(sorted.map(({ message }) => message?.replaceAll('\0', '\u{fffd}') ?? null)),
    ],
  })
  return new Set(rows.map(({ id }) => id))
}
