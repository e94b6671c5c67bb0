import type { Scalar } from '../scenario/models.ts'

/** A numbered message of a simulated device, from the moment at which it is due until it is answered for good. */
export interface Message {
  /** Index of its device. */
  readonly device: number
  /** From 1, in the order in which the device made its messages. */
  readonly number: number
  /** When it was due by the run's clock, microseconds: latency counts from here. */
  readonly dueUs: number
  /** What it says of its time, microseconds; 0 when it says nothing. */
  readonly timeUs: number
  /** In the order of the device's metrics; undefined for a message that cannot be decoded. */
  readonly values: readonly Scalar[] | undefined
  readonly payload: string
  readonly qos: 0 | 1 | 2
  /** Its device was away on purpose, or kept it back: how long it waited says nothing of the other side. */
  delayed: boolean
  /** Copies that are sent on purpose: what is wanted is one answer for each. */
  copies: number
  /** How often it was handed to the network. */
  sends: number
  /** Answers that are awaited. */
  pending: number
  settled: boolean
}

/** What became of one copy of a message. `again`: this connection cannot say any more. */
export type Answer =
  | { readonly kind: 'accepted' }
  /** Kept as a dead letter, and said so. */
  | { readonly kind: 'parked' }
  | { readonly kind: 'refused'; readonly code: string }
  | { readonly kind: 'again'; readonly code: string; readonly waitMs: number }
