import type { Handle } from '#platform/handle.ts'
import type { DeadLetter } from '#schema/dead-letter.ts'
import type { TelemetryEvent } from '#schema/telemetry-event.ts'

/** What an acknowledgement is worth: the Postgres commit; acks=all with min.insync.replicas ≥ 2; one broker (survives a process crash, not a power cut). */
export type AckLevel = 'committed' | 'replicated' | 'single-copy'

export interface EventLog extends Handle {
  readonly kind: 'direct' | 'kafka'
  readonly ackLevel: AckLevel
  /**
   * Makes a micro-batch durable, all of it or none that we know of. Batches keep their order.
   * Resolves when every record is durable: only then may anyone acknowledge. A record that the log refuses alone is parked by the log itself.
   * @throws BridgeError BRIDGE_EVENT_LOG_FULL at once when the bounded buffer has no room;
   *   BRIDGE_EVENT_LOG_UNAVAILABLE when the batch was still unsent at its deadline (10 s) or the log gave up. What was already under way cannot
   *   be withdrawn: such a batch stays pending until the log answers.
   */
  append(events: readonly TelemetryEvent[], deadLetters: readonly DeadLetter[]): Promise<void>
  /** Milliseconds for which the log has not answered while it was asked (or probed); 0 when it is well. */
  awayMs(): number
}
