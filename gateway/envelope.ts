import type { Ingress } from './ingress.ts'
import type { Verdict } from './verdict.ts'

/** One message on its way. `settle` is called exactly once, never inside `push`; the source turns the verdict into its answer. */
export interface Envelope {
  readonly ingress: Ingress
  /**
   * Messages of one lane (an MQTT connection) keep their order, also while one of them is held at a limit.
   * Undefined (HTTP): no order, and never held. A batch over HTTP that has one answer is a lane, too: closed, it refuses what is left of it.
   */
  readonly lane: Lane | undefined
  /** performance.now() until which a limit may hold the message; past it, or when it is already past, the verdict is `refused`. Infinity: held until its turn. */
  readonly holdUntilMs: number
  /** True: a limit that others share (a fleet's, a tenant's) holds the message until its turn instead, whatever `holdUntilMs` says. */
  readonly holdsShared?: boolean
  settle(verdict: Verdict): void
}

/** The order of one connection. The pipeline keeps held messages in it; the source closes it with the connection. */
export class Lane {
  /** True once the connection is gone: held messages are then refused at their next turn. */
  closed = false
  /** performance.now() at which held messages may ask again; 0 when none are held. */
  blockedUntilMs = 0
  /** True while what holds them is a limit that others share. */
  isSharing = false
}
