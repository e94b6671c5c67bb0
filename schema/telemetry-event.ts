import type { DeadLetterContext } from './dead-letter.ts'

/** Where a message came in. */
export type Source = 'mqtt' | 'http'

/**
 * One value of one metric. Exactly one of `value`, `text`, `flag` is present, so typed consumers read it without a union.
 * Times are whole microseconds since the Unix epoch.
 */
export interface Reading {
  readonly metric: string
  readonly value?: number
  readonly text?: string
  readonly flag?: boolean
  /** SenML or UCUM name; absent when the sender named none. */
  readonly unit?: string
  readonly eventTimeUs: number
  /** The device's own clock, only where it was not believed (more than 10 min ahead of arrival: `clock` 2). */
  readonly deviceTimeUs?: number
  /** Whose clock `eventTimeUs` is: absent (0) the device's; 1 none given or not set, so arrival; 2 too far ahead, so arrival. */
  readonly clock?: 1 | 2
}

/** A message's bytes beside its readings, and what else decides what they become. */
export interface RawMessage {
  /** MQTT topic name, or path of the request with its query. */
  readonly topic: string
  readonly contentType?: string
  /** Base64; of the message alone, after inflation and splitting. */
  readonly payload: string
  readonly context?: DeadLetterContext
  /** Days after the arrival. */
  readonly keepDays: number
}

/** The value of a record in the telemetry topic: one message of one device. schema/telemetry-event.v1.json is its JSON Schema. */
export interface TelemetryEvent {
  readonly v: 1
  /** UUIDv7, ours. Random within a millisecond, so never an order. */
  readonly id: string
  /** The sender's own name of the message (`id` in the body, id of a CloudEvent, or Idempotency-Key). */
  readonly messageKey?: string
  /** A value equal to a stored one of the same instant is a reading of its own: messages are told apart, not values. */
  readonly identity?: 'message'
  /** Names the MQTT delivery (client id, packet id, bytes) of a message without a key that its readings do not tell from another. */
  readonly deliveryKey?: string
  /** It came with the DUP flag: a message of the same deliveryKey that arrived shortly before is this one. */
  readonly resend?: true
  /** The dead letter that this message was until an operator replayed it. */
  readonly replayOf?: string
  readonly tenant: string
  readonly device: string
  /** The fleet credential's device, when that spoke for `device`. */
  readonly gateway?: string
  readonly source: Source
  /** Name of the decoding rules: own, generic, seed, thingsboard, … */
  readonly codec: string
  readonly ingestTimeUs: number
  readonly readings: readonly Reading[]
  /** Only where a route says `keepRaw`. */
  readonly raw?: RawMessage
}
