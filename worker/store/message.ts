import type { DeadLetter } from '#schema/dead-letter.ts'
import type { ReasonCode } from '#schema/reason-code.ts'
import type { TelemetryEvent } from '#schema/telemetry-event.ts'

/** A decoded record on its way into the tables. */
export interface Message {
  readonly event: TelemetryEvent
  readonly offset: number
  /** Index of its slice. */
  readonly slice: number
}

/** Why the store parks a message. */
export interface Refusal {
  readonly code: ReasonCode
  readonly message: string
}

export interface ParkedMessage extends Refusal {
  readonly source: Message
}

/** A dead letter of the event log. */
export interface LoggedDeadLetter {
  readonly deadLetter: DeadLetter
  readonly offset: number
  readonly slice: number
}
