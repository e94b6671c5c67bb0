import { setTimeout as sleep } from 'node:timers/promises'
import type { Replayer } from '../dead-letters/replayer.ts'
import type { Change, Client } from './registry/change.ts'
import {
  type LetterFilter,
  type LetterOutcomes,
  lettersToReplay,
  markReplayed,
  markTried,
  outcomesOf,
  type Page,
} from './registry/dead-letters.ts'

/** Letters of one request: their bytes are in memory meanwhile, up to 1 MiB each. */
export const maxReplayed = 200
/** How long an answer waits for the rows. With Kafka the worker may be away; then they count as pending. */
const patienceMs = 5000
const askEveryMs = 50

export interface ReplayAnswer extends LetterOutcomes {
  /** How many were looked at. */
  readonly letters: number
  /** Why those are parked that still are, a line a code. */
  readonly reasons: readonly { readonly code: string; readonly message: string; readonly letters: number }[]
  /** The `after` of the next page; null at the end. */
  readonly next: string | null
}

/**
 * Replays one page of dead letters. Safe to repeat: what was stored is marked, and marked ones are not looked at; one that was sent twice
 * because nobody had marked it yet is stored once.
 */
export async function replayLetters(
  client: Client,
  by: Change,
  replayer: Replayer,
  filter: LetterFilter,
  { limit, after, dryRun }: Page & { readonly dryRun: boolean },
): Promise<ReplayAnswer> {
  const most = Math.min(limit, maxReplayed)
  const letters = await lettersToReplay(client, filter, { limit: most, after })
  const ids = letters.map(({ id }) => id)
  if (!dryRun) await markTried(client, by, filter, ids)
  const replayed = await replayer.replay(letters, dryRun)
  const reasons = new Map<string, { code: string; message: string; letters: number }>()
  for (const one of replayed) {
    if (one.kind !== 'parked') continue
    const reason = reasons.get(one.code)
    if (reason === undefined) reasons.set(one.code, { code: one.code, message: one.message, letters: 1 })
    else reason.letters++
  }
  const page = {
    letters: letters.length,
    reasons: [...reasons.values()],
    next: ids.at(-1) ?? null, // a page may be short because its letters are long, so only an empty one is the last
  }
  const count = (kind: string) => replayed.filter((one) => one.kind === kind).length
  if (dryRun)
    return {
      ...page,
      stored: count('sent'),
      duplicate: 0,
      ignored: count('ignored'),
      parked: count('parked'),
      pending: 0,
    }
  await markReplayed(client, replayed)
  const deadline = performance.now() + patienceMs
  for (;;) {
    const outcomes = await outcomesOf(client, ids)
    if (outcomes.pending === 0 || performance.now() > deadline) return { ...page, ...outcomes }
    await sleep(askEveryMs)
  }
}
