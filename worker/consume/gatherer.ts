import type { StreamSlice } from '../store/stream-slice.ts'

export interface GathererOptions {
  /** Makes slices rows, all or none. */
  readonly write: (slices: readonly StreamSlice[]) => Promise<void>
  /** After a failed write nothing more is written until `drop()`. */
  readonly onFailed: (error: unknown) => void
}

/** Rows of one transaction: beyond 5,000 it gains nothing and only holds locks longer. */
export const maxGathered = 5000
/** Between the starts of two transactions that are not full, so that few messages don't cost a transaction each. */
const gatherMs = 20
/** The same while many come: a row of latest is then written once for several messages, and a commit carries more. */
const gatherManyMs = 100
const manyRecords = 100

/**
 * Joins slices of many partitions into one transaction after another: what comes while one runs is the next one. Holds at most one in hand and
 * one that grows; who brings more waits.
 */
export class Gatherer {
  private readonly options: GathererOptions
  private slices: StreamSlice[] = []
  private records = 0
  private lastRecords = 0
  private waiting: (() => void)[] = []
  private timer: NodeJS.Timeout | undefined
  private inHand: Promise<void> | undefined
  private failed = false
  private startedMs = Number.NEGATIVE_INFINITY

  constructor(options: GathererOptions) {
    this.options = options
  }

  get isFull(): boolean {
    return this.records >= maxGathered
  }

  get isEmpty(): boolean {
    return this.slices.length === 0 && this.inHand === undefined
  }

  add(slice: StreamSlice): void {
    this.slices.push(slice)
    this.records += slice.records.length
    this.schedule()
  }

  /** Resolves when what was added so far is being written, or was dropped. */
  taken(): Promise<void> {
    if (this.slices.length === 0) return Promise.resolve()
    return new Promise((resolve) => this.waiting.push(resolve))
  }

  /** Forgets what is not in hand, and resolves when nothing is; then writing may go on. */
  async drop(): Promise<void> {
    this.take()
    await this.inHand
    this.take()
    this.failed = false
  }

  /** Writes what is there; resolves when nothing is in hand any more, whatever became of it. */
  async drain(): Promise<void> {
    while (!this.isEmpty && !this.failed) {
      this.start()
      await this.inHand
    }
  }

  private schedule(): void {
    if (this.inHand !== undefined || this.failed || this.slices.length === 0) return
    if (this.isFull) this.start()
    else {
      const betweenMs = this.lastRecords >= manyRecords ? gatherManyMs : gatherMs
      const waitMs = Math.min(betweenMs, this.startedMs + betweenMs - performance.now())
      this.timer ??= setTimeout(this.start, Math.max(1, waitMs))
    }
  }

  private readonly start = (): void => {
    clearTimeout(this.timer)
    this.timer = undefined
    if (this.inHand !== undefined || this.failed || this.slices.length === 0) return
    this.startedMs = performance.now()
    this.inHand = this.write(this.take()).then(() => {
      this.inHand = undefined
      this.schedule()
    })
  }

  private async write(slices: readonly StreamSlice[]): Promise<void> {
    try {
      await this.options.write(slices)
    } catch (error) {
      this.failed = true
      this.options.onFailed(error)
    }
  }

  private take(): StreamSlice[] {
    const taken = this.slices
    this.slices = []
    this.lastRecords = this.records
    this.records = 0
    for (const resolve of this.waiting.splice(0)) resolve()
    return taken
  }
}
