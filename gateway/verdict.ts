import type { ReasonCode } from '#schema/reason-code.ts'

/** What became of a message, the same on both protocols; each source has its own answer for each kind. */
export type Verdict =
  /** Durable, or a duplicate of what is; `ignored` when it decoded to no readings. */
  | { readonly kind: 'stored' }
  | { readonly kind: 'ignored' }
  /** We hold its bytes as a dead letter, durable too. */
  | { readonly kind: 'parked'; readonly code: ReasonCode; readonly message: string; readonly deadLetterId: string }
  /** Not taken. `limit` and `waitMs` only with `rate_limited`; `retryable` tells a refusal of the moment from one of the message. */
  | {
      readonly kind: 'refused'
      readonly code: ReasonCode
      readonly message: string
      readonly limit?: string
      readonly waitMs?: number
    }

export const stored: Verdict = Object.freeze({ kind: 'stored' })
export const ignored: Verdict = Object.freeze({ kind: 'ignored' })
