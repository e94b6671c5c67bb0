import type { DeadLetter } from '#schema/dead-letter.ts'
import type { ReasonCode } from '#schema/reason-code.ts'
import type { TelemetryEvent } from '#schema/telemetry-event.ts'
import type { Ingress } from '../ingress.ts'

/** What a message decoded to: events (one a device it speaks of), a dead letter, nothing to store, or a device that its credential does not cover. */
export type Outcome =
  | { readonly kind: 'events'; readonly events: readonly TelemetryEvent[] }
  | { readonly kind: 'dead'; readonly deadLetter: DeadLetter }
  | { readonly kind: 'ignored' }
  | { readonly kind: 'refused'; readonly code: ReasonCode; readonly message: string }

/** Decodes, names devices and checks them against the credential. Never throws, whatever the bytes. */
export interface Normalizer {
  normalize(batch: readonly Ingress[]): readonly Outcome[]
}
