import type { ReasonCode } from '#schema/reason-code.ts'

interface ProblemKind {
  readonly status: number
  readonly title: string
  /** What `Retry-After` says unless the refusal knows better. */
  readonly retryAfterSeconds?: number
}

const parked = (title: string): ProblemKind => ({ status: 400, title })

/** What each reason is over HTTP; docs/errors.md says what to do about it. */
export const problemTable: Record<ReasonCode, ProblemKind> = {
  empty: parked('Empty message'),
  malformed: parked('Malformed message'),
  unsupported: parked('Unsupported format'),
  no_device: parked('No device is named'),
  bad_time: parked('Unreadable time'),
  bad_value: parked('Value out of range or of the wrong type'),
  unknown_alias: parked('Unknown alias'),
  too_deep: parked('Nested too deep'),
  too_many_readings: parked('Too many readings in one message'),
  bad_device: parked('Illegal device id'),
  too_old: parked('Older than the retention'),
  too_many_devices: parked('Too many new devices'),
  too_many_items: { status: 413, title: 'Too many messages in one request' },
  contract: parked('Against the data contract'),
  not_allowed: { status: 403, title: 'Not allowed for this credential' },
  not_authenticated: { status: 401, title: 'Wrong or no credentials' },
  credential_disabled: { status: 401, title: 'Credential is disabled, revoked or expired' },
  credentials_unavailable: { status: 503, title: 'Credentials are not loaded', retryAfterSeconds: 2 },
  rate_limited: { status: 429, title: 'Over a limit', retryAfterSeconds: 1 },
  too_large: { status: 413, title: 'Too large' },
  queue_full: { status: 503, title: 'Too much is in hand', retryAfterSeconds: 1 },
  event_log_unavailable: { status: 503, title: 'The event log does not answer', retryAfterSeconds: 1 },
  shutting_down: { status: 503, title: 'Shutting down', retryAfterSeconds: 1 },
  protocol_error: { status: 400, title: 'Not a request that can be read' },
  not_found: { status: 404, title: 'Not found' },
  internal: { status: 500, title: 'Internal error' },
  too_many_metrics: parked('Too many metric names'),
  too_many_ordinals: parked('Too many values at one instant'),
  row_refused: parked('The row was refused'),
  record_refused: parked('The record was refused'),
}

/** A whole response, but for what depends on the connection. */
export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

export interface ProblemOptions {
  readonly detail: string
  /** Names the request in the answer and, where there is one, in the log. */
  readonly id: string
  /** Where HTTP has a finer word than the reason's own. */
  readonly status?: number
  readonly waitMs?: number | undefined
  readonly headers?: Readonly<Record<string, string>>
  /** Further members of the document. */
  readonly more?: Readonly<Record<string, unknown>>
}

/** A problem document (RFC 9457). `type` only names the problem: nothing is to be found there. */
export function problem(code: ReasonCode, { detail, id, status, waitMs, headers, more }: ProblemOptions): Answer {
  const kind = problemTable[code]
  const document = {
    type: `urn:fleetbridge:problem:${code}`,
    title: kind.title,
    status: status ?? kind.status,
    detail,
    instance: `urn:uuid:${id}`,
    code,
    ...more,
  }
  const retryAfter = retryAfterOf(kind, waitMs)
  return {
    status: document.status,
    headers: {
      'content-type': 'application/problem+json',
      ...(retryAfter !== undefined && { 'retry-after': String(retryAfter) }),
      ...headers,
    },
    body: JSON.stringify(document),
  }
}

/** Whole seconds, rounded up (RFC 9110 §10.2.3): whoever comes back at that second finds room. */
function retryAfterOf({ retryAfterSeconds }: ProblemKind, waitMs: number | undefined): number | undefined {
  return waitMs === undefined ? retryAfterSeconds : Math.max(1, Math.ceil(waitMs / 1000))
}
