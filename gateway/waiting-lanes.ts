import type { Lane } from './envelope.ts'
import type { Job } from './job.ts'

interface Held {
  readonly jobs: Job[]
  untilMs: number
}

/** Timers of less than this are not worth their cost; a held message waits at least as long. */
const tickMs = 10

/** Lanes whose first message is over a limit, with everything that came behind it; one timer for all. */
export class WaitingLanes {
  readonly #lanes = new Map<Lane, Held>()
  readonly #release: (jobs: Job[]) => void
  #timer: NodeJS.Timeout | undefined
  #dueMs = Number.POSITIVE_INFINITY

  /** @param release gets the jobs of lanes whose time has come, in order per lane */
  constructor(release: (jobs: Job[]) => void) {
    this.#release = release
  }

  /** What is held in a lane, oldest first, for others to join at the end; undefined when nothing is. */
  jobsOf(lane: Lane): Job[] | undefined {
    return this.#lanes.get(lane)?.jobs
  }

  /** @param jobs older than all that the lane holds already */
  hold(lane: Lane, jobs: Job[], untilMs: number): void {
    const younger = this.#lanes.get(lane)?.jobs ?? []
    this.#lanes.set(lane, { jobs: jobs.concat(younger), untilMs })
    lane.blockedUntilMs = untilMs
    this.#schedule(untilMs)
  }

  releaseAll(): void {
    this.#releaseUntil(Number.POSITIVE_INFINITY)
  }

  #schedule(untilMs: number): void {
    if (untilMs >= this.#dueMs) return
    clearTimeout(this.#timer)
    this.#dueMs = untilMs
    this.#timer = setTimeout(
      () => this.#releaseUntil(performance.now() + 1),
      Math.max(tickMs, untilMs - performance.now()),
    )
  }

  #releaseUntil(nowMs: number): void {
    clearTimeout(this.#timer)
    this.#dueMs = Number.POSITIVE_INFINITY
    const released: Job[] = []
    let earliest = Number.POSITIVE_INFINITY
    for (const [lane, held] of this.#lanes) {
      if (held.untilMs > nowMs && !lane.closed) {
        earliest = Math.min(earliest, held.untilMs)
        continue
      }
      this.#lanes.delete(lane)
      lane.blockedUntilMs = 0
      for (const job of held.jobs) released.push(job)
    }
    if (earliest < Number.POSITIVE_INFINITY) this.#schedule(earliest)
    if (released.length > 0) this.#release(released)
  }
}
