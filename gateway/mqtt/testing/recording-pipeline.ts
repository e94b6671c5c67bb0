import type { Envelope } from '../../envelope.ts'
import type { Pipeline } from '../../pipeline-port.ts'
import { stored, type Verdict } from '../../verdict.ts'

/** A pipeline that keeps what comes in and settles it when a test says so, or in the next tick with `verdict`. */
export class RecordingPipeline implements Pipeline {
  readonly pushed: Envelope[] = []
  /** Undefined: holds everything until it is settled by hand. */
  verdict: ((envelope: Envelope) => Verdict) | undefined
  #waiting: Envelope[] = []
  #scheduled = false

  constructor(verdict: 'hold' | ((envelope: Envelope) => Verdict) = () => stored) {
    this.verdict = verdict === 'hold' ? undefined : verdict
  }

  push(envelope: Envelope): void {
    this.pushed.push(envelope)
    this.#waiting.push(envelope)
    if (this.verdict === undefined || this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      const { verdict } = this
      if (verdict !== undefined) this.settleAll(verdict)
    })
  }

  /** Messages without a verdict. */
  get waiting(): readonly Envelope[] {
    return this.#waiting
  }

  get payloads(): string[] {
    return this.pushed.map(({ ingress }) => ingress.payload.toString())
  }

  settleAll(verdict: Verdict | ((envelope: Envelope) => Verdict) = stored): void {
    const group = this.#waiting
    this.#waiting = []
    for (const envelope of group) envelope.settle(typeof verdict === 'function' ? verdict(envelope) : verdict)
  }

  /** Settles the one that was pushed n-th, counted from 0. */
  settle(index: number, verdict: Verdict = stored): void {
    const envelope = this.pushed[index]
    if (envelope === undefined) throw new RangeError(`only ${this.pushed.length} messages were pushed`)
    this.#waiting = this.#waiting.filter((other) => other !== envelope)
    envelope.settle(verdict)
  }
}
