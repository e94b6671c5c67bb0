import type { DecodeCode } from '#schema/reason-code.ts'
import type { Source } from '#schema/telemetry-event.ts'
import type { CodecInput } from './codec-input.ts'

/** The decoding rules of one format. Codecs know nothing of credentials, limits on names or clocks: the normalizer checks these for all of them. */
export interface Codec {
  /** What `codec` says in the record; one of the names in docs/formats.md. */
  readonly name: string
  /**
   * All or nothing: every reading of the message, or one error. No readings at all is a message that is ignored.
   * @throws {DecodeError}
   */
  decode(input: CodecInput): Decoded
}

export interface Decoded {
  readonly readings: readonly RawReading[]
  /** The sender's own name of the message, where the format has one. */
  readonly messageKey?: string | undefined
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

/** What a codec may know besides the bytes. */
export interface CodecContext {
  readonly transport: Source
  /** MQTT topic name, or the path of the request with its query. */
  readonly topic: string
  readonly contentType: string | undefined
  /** Who sends: `me`, and the device where neither payload nor topic names one. */
  readonly transportDevice: string | undefined
  /** The device that the path or the fleet body named. */
  readonly device: string | undefined
  /** Whether the sender may speak for other devices. */
  readonly fleet: boolean
  /** One element of an array that was split: only an object will do. */
  readonly arrayElement: boolean
}

/** How a codec gives up. No Error, since its stack trace costs more than decoding: garbage must not be dearer than good messages. */
export class DecodeError {
  readonly code: DecodeCode
  /** One line for people. What it quotes of the input went through `quoted`. */
  readonly message: string

  constructor(code: DecodeCode, message: string) {
    this.code = code
    this.message = message
  }
}
