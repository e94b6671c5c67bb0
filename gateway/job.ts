import type { Envelope } from './envelope.ts'
import type { Outcome } from './normalize/normalizer.ts'
import type { Cost, Wait } from './rate-limit/rate-limiter.ts'

/** An envelope with how far it has come, so that one which was held at a limit goes on where it stood. */
export class Job {
  readonly envelope: Envelope
  outcome: Outcome | undefined = undefined
  /** What the current stage still has to spend; undefined before it was asked, empty when all is paid. */
  owed: readonly Cost[] | undefined = undefined
  /** The refusal that holds it, or holds the message before it in its lane. */
  wait: Wait | undefined = undefined
  settled = false
  /** A limit has stopped it, and it is in the books for that. */
  isLimited = false
  /** As its envelope says, but later when a limit that others share has held it meanwhile. */
  holdUntilMs: number
  /** It is held at a limit that others share, or behind a message that is: that time is not its own. */
  holdsAnew = false
  /** What a message of a backlog has paid before anybody knew that it is one: it goes back when it is known. */
  prepaid: Cost | undefined = undefined
  /** Its dead letter is counted in the quota of parked bytes. */
  isParkingPaid = false

  constructor(envelope: Envelope) {
    this.envelope = envelope
    this.holdUntilMs = envelope.holdUntilMs
  }

  /** It may be held from now on for as long as when it arrived. */
  holdAnew(nowMs: number): void {
    this.holdsAnew = false
    const { holdUntilMs, ingress } = this.envelope
    if (holdUntilMs > 0) this.holdUntilMs = nowMs + holdUntilMs - ingress.arrivedAtMs
  }
}
