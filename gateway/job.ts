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
  /** Its dead letter is counted in the quota of parked bytes. */
  isParkingPaid = false

  constructor(envelope: Envelope) {
    this.envelope = envelope
  }
}
