import type { ReasonCode } from './reason-code.ts'
import type { Source } from './telemetry-event.ts'

/** What the bytes alone do not say, and a replay has to know. */
export interface DeadLetterContext {
  /** The credential's own device; absent when that is the dead letter's. */
  readonly sender?: string
  /** It came by a fleet credential. */
  readonly fleet?: true
  /** It was one device's part of a fleet body, or one line of a batch. */
  readonly fleetItem?: true
  /** It was one element of an array over HTTP. */
  readonly arrayElement?: true
  /** The device that the path or the fleet body named, also where it is none. */
  readonly device?: string
  /** Its Idempotency-Key. */
  readonly messageKey?: string
  /** Headers of the request that its format needs, by lower-case names. */
  readonly headers?: Readonly<Record<string, string>>
}

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
  /** Absent where the sender was the device itself, and nothing else is to be known. */
  readonly context?: DeadLetterContext
}
