import type { CodecInput } from './codec-input.ts'

/** The decoding rules of one format. Codecs know nothing of credentials, limits on names or clocks: the normalizer checks these for all of them. */
export interface Codec {
  /** What `codec` says in the record; one of the names in docs/formats.md. */
  readonly name: string
  /**
   * All or nothing: every reading of the message, or one error. No readings at all is a message that is ignored.
   * @throws {DecodeError} see decode-error.ts
   */
  decode(input: CodecInput): Decoded
}

export interface Decoded {
  readonly readings: readonly RawReading[]
  /** The sender's own name of the message, where the format has one. */
  readonly messageKey?: string | undefined
  /** A Sparkplug edge node (`GROUP/NODE`) whose birth is not known here: it should be asked to tell it again. */
  readonly unborn?: string | undefined
  /** Set by a route: equal values of one instant are as many as there were messages. */
  readonly identity?: 'message' | undefined
}

/** A reading as the message says it. */
export interface RawReading {
  readonly device: string
  readonly metric: string
  readonly value: Scalar
  /** SenML or UCUM name. */
  readonly unit: string | undefined
  /** The device's clock in whole microseconds; undefined when it gave no time, or one that shows a clock that was never set. */
  readonly timeUs: number | undefined
  /** Which element of an array message it is from: those of one element share one arrival time. */
  readonly element: number
}

export type Scalar = number | string | boolean
