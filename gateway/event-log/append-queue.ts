import { BridgeError } from '#platform/errors.ts'

/** One call of append() on its way: all of it becomes durable, or the call is refused. */
export interface Append<Work> {
  readonly work: Work
  readonly bytes: number
  readonly appendedAtMs: number
  settle(error?: BridgeError): void
}

interface Waiting<Work> extends Append<Work> {
  readonly deadlineMs: number
}

export interface AppendQueueOptions {
  readonly maxBytes: number
  readonly deadlineMs: number
  /** Called with each outcome, and the seconds since the call. */
  readonly onSettled: (seconds: number, error: BridgeError | undefined) => void
}

/**
 * What has been appended and is not durable yet, in order. Bytes count until an append is settled, also while it is being sent;
 * what was not taken for sending by its deadline is withdrawn.
 */
export class AppendQueue<Work> {
  private readonly options: AppendQueueOptions
  private waiting: Waiting<Work>[] = []
  private timer: NodeJS.Timeout | undefined
  private unsettled = 0
  private bytesHeld = 0
  private closed = false
  private emptied: (() => void) | undefined

  constructor(options: AppendQueueOptions) {
    this.options = options
  }

  get length(): number {
    return this.waiting.length
  }

  get bytes(): number {
    return this.bytesHeld
  }

  /** @throws BridgeError BRIDGE_EVENT_LOG_FULL, BRIDGE_EVENT_LOG_UNAVAILABLE once closed */
  add(work: Work, bytes: number): Promise<void> {
    if (this.closed) return Promise.reject(unavailable('the event log is closed'))
    // One append larger than the whole buffer passes when nothing else is held, or it could never pass.
    if (this.bytesHeld + bytes > this.options.maxBytes && this.bytesHeld > 0) {
      const error = new BridgeError('BRIDGE_EVENT_LOG_FULL', `${this.bytesHeld} bytes wait for the event log`)
      this.options.onSettled(0, error)
      return Promise.reject(error)
    }
    this.bytesHeld += bytes
    this.unsettled++
    return new Promise((resolve, reject) => {
      const now = performance.now()
      this.waiting.push({
        work,
        bytes,
        appendedAtMs: now,
        deadlineMs: now + this.options.deadlineMs,
        settle: (error) => {
          this.bytesHeld -= bytes
          this.unsettled--
          this.options.onSettled((performance.now() - now) / 1000, error)
          if (error === undefined) resolve()
          else reject(error)
          if (this.unsettled === 0) this.emptied?.()
        },
      })
      this.timer ??= setTimeout(this.withdrawLate, this.options.deadlineMs).unref()
    })
  }

  /** Takes appends from the front for as long as `fits` says so; the first is taken in any case. */
  take(fits: (append: Append<Work>) => boolean): Append<Work>[] {
    let count = 0
    while (count < this.waiting.length && (fits(this.waiting[count] as Append<Work>) || count === 0)) count++
    const taken = this.waiting
    this.waiting = taken.splice(count)
    return taken
  }

  /** Puts appends that could not be sent back to the front; those past their deadline are withdrawn. */
  putBack(appends: readonly Append<Work>[]): void {
    this.waiting = [...(appends as readonly Waiting<Work>[]), ...this.waiting]
    this.withdrawLate()
  }

  withdrawAll(why: string): void {
    this.withdraw(this.waiting.length, why)
  }

  /** Takes no more; resolves when everything is settled. */
  close(): Promise<void> {
    this.closed = true
    return new Promise((resolve) => {
      if (this.unsettled === 0) resolve()
      else this.emptied = resolve
    })
  }

  private readonly withdrawLate = (): void => {
    clearTimeout(this.timer)
    this.timer = undefined
    const now = performance.now()
    let late = 0
    while (late < this.waiting.length && (this.waiting[late] as Waiting<Work>).deadlineMs <= now) late++
    this.withdraw(late, `the event log did not take it within ${this.options.deadlineMs} ms`)
    const next = this.waiting[0]
    if (next !== undefined) this.timer = setTimeout(this.withdrawLate, Math.max(1, next.deadlineMs - now)).unref()
  }

  private withdraw(count: number, why: string): void {
    if (count === 0) return
    const error = unavailable(why)
    for (const append of this.waiting.splice(0, count)) append.settle(error)
  }
}

export function unavailable(message: string, cause?: unknown): BridgeError {
  return new BridgeError('BRIDGE_EVENT_LOG_UNAVAILABLE', message, { cause })
}
