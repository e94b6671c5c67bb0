import type { ReasonCode } from './reason-code.ts'
import type { Source } from './telemetry-event.ts'

/** A message that we hold as bytes because it could not become rows. Durable before its sender is answered. */
export interface DeadLetter {
  /** UUIDv7, ours; told to the sender. */
  readonly id: string
  readonly tenant: string
  readonly device: string
  readonly source: Source
  /** MQTT topic name, or path of the request with its query. */
  readonly topic: string
  readonly contentType?: string
  /** Who gave up: `decode` (gateway) or `store` (worker). */
  readonly stage: 'decode' | 'store'
  readonly code: ReasonCode
  /** For people; never holds payload bytes beyond a short quotation. */
  readonly message: string
  /** True when the sender was told that we have it (PUBACK, 204, or QoS 0); false when it was refused with this code. */
  readonly acknowledged: boolean
  readonly ingestTimeUs: number
  /** The original bytes after inflation; null only when the event log refused even these. */
  readonly payload: Buffer | null
}
