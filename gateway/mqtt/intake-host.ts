import type { Lane } from '../envelope.ts'
import type { Withheld } from './answers.ts'
import type { ProtocolVersion } from './packet-types.ts'

/** The connection, as far as its messages concern it. */
export interface IntakeHost {
  readonly lane: Lane
  /** When the bytes that are being read arrived: performance.now(), and whole microseconds since the epoch. */
  readonly nowMs: number
  readonly nowUs: number
  write(bytes: Buffer): void
  /** Ends the connection, at `atMs` if that is still to come, and reads nothing until then. */
  withhold(why: Withheld, atMs: number, text: string): void
  /** Ends the connection for a packet that breaks the protocol. */
  fault(code: number): void
  /** A packet that was put off may be taken now. */
  onRoom(): void
  /** Ends the connection for a fault of ours. */
  fail(error: unknown): void
}

export interface IntakeSettings {
  readonly version: ProtocolVersion
  /** How long a message is held before the connection ends. */
  readonly holdMs: number
}
