import type { ReasonCode } from '#schema/reason-code.ts'
import type { Verdict } from '../verdict.ts'
import { type Answer, problem, problemTable } from './problem.ts'

/** What became of one message of several: its place in the body and the status it would have had alone. */
interface Item {
  readonly index: number
  readonly status: number
  readonly code?: ReasonCode
  readonly deadLetter?: string
  readonly waitMs?: number
}

const json = { 'content-type': 'application/json' }

/**
 * The one answer to a request's messages: the status that all of them share, else 207 with an item for each.
 * @param verdicts one for each message, in the order of the body; at least one
 */
export function answerTo(verdicts: readonly Verdict[], id: string): Answer {
  const first = verdicts[0] as Verdict
  const status = statusOf(first)
  for (const verdict of verdicts) if (statusOf(verdict) !== status) return multiStatus(verdicts, id)
  if (status === 202) return accepted(verdicts, id)
  return verdicts.length === 1 ? problemOf(first, id) : problemOfAll(verdicts, id)
}

/** The answer to nearly every request, so it is put together without an object. */
export function acceptedOne(id: string): string {
  return `{"accepted":1,"id":"${id}"}`
}

/** The status of a message that is alone in its request. */
export function statusOf(verdict: Verdict): number {
  switch (verdict.kind) {
    case 'stored':
    case 'ignored':
      return 202
    case 'parked':
      return 400
    case 'refused':
      return problemTable[verdict.code].status
  }
}

function accepted(verdicts: readonly Verdict[], id: string): Answer {
  const count = acceptedOf(verdicts)
  const ignored = verdicts.length - count
  return {
    status: 202,
    headers: json,
    body: JSON.stringify({ accepted: count, ...(ignored > 0 && { ignored }), id }),
  }
}

/** Messages without readings are acknowledged, but there is nothing to find of them. */
function acceptedOf(verdicts: readonly Verdict[]): number {
  let count = 0
  for (const { kind } of verdicts) if (kind === 'stored') count++
  return count
}

function multiStatus(verdicts: readonly Verdict[], id: string): Answer {
  const waitMs = longestWaitOf(verdicts)
  return {
    status: 207,
    headers: waitMs === undefined ? json : { ...json, 'retry-after': String(Math.max(1, Math.ceil(waitMs / 1000))) },
    body: JSON.stringify({ accepted: acceptedOf(verdicts), id, items: verdicts.map(itemOf) }),
  }
}

function itemOf(verdict: Verdict, index: number): Item {
  const status = statusOf(verdict)
  if (verdict.kind === 'parked') return { index, status, code: verdict.code, deadLetter: verdict.deadLetterId }
  if (verdict.kind !== 'refused') return { index, status }
  const { code, waitMs } = verdict
  return waitMs === undefined ? { index, status, code } : { index, status, code, waitMs }
}

function problemOf(verdict: Verdict, id: string): Answer {
  if (verdict.kind === 'parked') {
    const { code, message, deadLetterId } = verdict
    return problem(code, { detail: message, id, status: 400, more: { parked: true, deadLetter: deadLetterId } })
  }
  if (verdict.kind !== 'refused') throw new TypeError('no problem')
  const { code, message, limit, waitMs } = verdict
  return problem(code, { detail: message, id, waitMs, more: { ...(limit && { limit }), ...(waitMs && { waitMs }) } })
}

/** All have one status, though perhaps for several reasons: the document is about the first, and lists all. */
function problemOfAll(verdicts: readonly Verdict[], id: string): Answer {
  const first = verdicts[0] as Verdict
  if (first.kind !== 'parked' && first.kind !== 'refused') throw new TypeError('no problem')
  const waitMs = longestWaitOf(verdicts)
  return problem(first.code, {
    detail: `none of the ${verdicts.length} messages was accepted; the first: ${first.message}`,
    id,
    status: statusOf(first),
    waitMs,
    more: {
      ...(verdicts.every(({ kind }) => kind === 'parked') && { parked: true }),
      ...(first.kind === 'refused' && first.limit !== undefined && { limit: first.limit }),
      ...(waitMs !== undefined && { waitMs }),
      items: verdicts.map(itemOf),
    },
  })
}

function longestWaitOf(verdicts: readonly Verdict[]): number | undefined {
  let longest: number | undefined
  for (const verdict of verdicts)
    if (verdict.kind === 'refused' && verdict.waitMs !== undefined && verdict.waitMs > (longest ?? 0))
      longest = verdict.waitMs
  return longest
}
