import type { Verdict } from '../verdict.ts'
import { type Answer, problem, problemTable } from './problem.ts'

type Refused = Extract<Verdict, { kind: 'refused' }>

/** All lines are stored or parked, or there were none. */
export const batchTaken: Answer = { status: 204, headers: {}, body: '' }

/**
 * The one answer to a batch whose sender knows no other: 204 when every line was stored or parked, else the refusal that the whole batch is sent
 * again for. Never 207, which Telegraf takes for all delivered, nor 400, at which it throws the batch away.
 */
export function answerToBatch(verdicts: readonly Verdict[], id: string): Answer {
  let worst: Refused | undefined
  let waitMs: number | undefined
  for (const verdict of verdicts) {
    if (verdict.kind !== 'refused') continue
    if (worst === undefined || urgencyOf(verdict) > urgencyOf(worst)) worst = verdict
    if (verdict.waitMs !== undefined) waitMs = Math.max(waitMs ?? 0, verdict.waitMs)
  }
  if (worst === undefined) return batchTaken
  const { code, message, limit } = worst
  return problem(code, {
    detail: `${message}. Send the whole batch again; of its lines some may be stored, and with their timestamps the copies are duplicates`,
    id,
    waitMs,
    more: { ...(limit && { limit }), ...(waitMs && { waitMs }) },
  })
}

/** What passes by waiting comes before what needs a person: the sender comes back, and is told the rest then. */
function urgencyOf({ code }: Refused): number {
  const { status } = problemTable[code]
  if (status === 429) return 2
  return status >= 500 ? 1 : 0
}
