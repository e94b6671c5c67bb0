import { BridgeError } from '#platform/errors.ts'
import type { Log } from '#platform/log.ts'
import type { DeadLetter } from '#schema/dead-letter.ts'
import type { ReasonCode } from '#schema/reason-code.ts'
import type { TelemetryEvent } from '#schema/telemetry-event.ts'
import type { Accounts } from './accounts.ts'

import { isBacklog } from './catch-up.ts'

import { type ParkedQuota, quotaWaitMs } from './dead-letters/parked-quota.ts'

import type { Envelope, Lane } from './envelope.ts'
import type { EventLog } from './event-log/event-log.ts'
import type { Ingress } from './ingress.ts'
import { Job } from './job.ts'
import type { LimitBooks } from './limit-books.ts'
import type { Normalizer } from './normalize/normalizer.ts'
import type { Pipeline } from './pipeline-port.ts'
import { isShared } from './rate-limit/limits.ts'
import type { Cost, RateLimiter, Wait } from './rate-limit/rate-limiter.ts'
import { ignored, stored, type Verdict } from './verdict.ts'
import { WaitingLanes } from './waiting-lanes.ts'

export interface Stages {
  readonly rateLimiter: RateLimiter
  readonly normalizer: Normalizer
  readonly eventLog: EventLog
  readonly accounts: Accounts
  readonly limitBooks: LimitBooks
  /** Absent: any amount may be parked. */
  readonly parkedQuota?: Pick<ParkedQuota, 'take'>
  readonly log: Log
  /** True: messages of a backlog draw on buckets of their own. */
  readonly catchesUp?: boolean
}

export interface RunningPipeline extends Pipeline {
  /** Refuses what is held at a limit and what still comes, and resolves when the event log has answered for the rest. */
  close(): Promise<void>
}

const maxBatch = 1000
/** At a quota of parked bytes, which no waiting mends. */
const longestHoldMs = 10_000
/** Bytes of payloads in hand over all connections: past it messages are refused, whatever each connection may hold. */
const maxInHandBytes = 256 * 1024 * 1024
/** A held message asks again after this long at the latest: its limit may have been set otherwise meanwhile. */
const longestSleepMs = 1000

/**
 * The one path: rate limit (message, bytes) → normalize → rate limit (readings) → event log → verdict.
 * Runs micro-batches one after the other up to the event log, so no stage awaits a message of its own and lanes keep their order;
 * the log's answers overlap with the next batches.
 */
export function createPipeline({
  rateLimiter,
  normalizer,
  eventLog,
  accounts,
  limitBooks,
  parkedQuota,
  log,
  catchesUp = false,
}: Stages): RunningPipeline {
  let pending: Job[] = []
  let running = false
  let closing = false
  let inHand = 0
  let inHandBytes = 0
  let drained: (() => void) | undefined
  const waiting = new WaitingLanes((jobs) => {
    pending = pending.length === 0 ? jobs : jobs.concat(pending) // held messages are older than all that wait
    wake()
  })

  return {
    push(envelope) {
      inHand++
      inHandBytes += envelope.ingress.payload.length
      accounts.received(envelope.ingress.source)
      pending.push(new Job(envelope))
      wake()
    },
    async close() {
      closing = true
      waiting.releaseAll()
      if (inHand > 0) await new Promise<void>((resolve) => (drained = resolve))
    },
  }

  function wake(): void {
    if (running) return
    running = true
    setImmediate(() => void run())
  }

  async function run(): Promise<void> {
    while (pending.length > 0) {
      const batch = pending.length <= maxBatch ? pending : pending.slice(0, maxBatch)
      pending = pending.length <= maxBatch ? [] : pending.slice(maxBatch)
      try {
        await runBatch(batch)
      } catch (error) {
        log.error({ err: error }, 'a batch failed before the event log: its messages are refused')
        for (const job of batch) if (!job.settled) refuse(job, 'internal', 'the gateway failed; see its log')
      }
    }
    running = false
  }

  async function runBatch(batch: readonly Job[]): Promise<void> {
    const admitted = await limited(batch.filter(mayGoOn), costsOfMessage)
    decode(admitted)
    const kept = withinQuota(admitted.filter(unsettled))
    const taken = await limited(kept, costsOfReadings)
    if (catchesUp) giveBackPrepaid(admitted)
    append(taken)
  }

  /**
   * A backlog takes nothing from live data: what its messages paid before they were decoded goes back, but for one that is refused: its own
   * device or fleet has had the work of decoding done.
   */
  function giveBackPrepaid(jobs: readonly Job[]): void {
    const costs: Cost[] = []
    for (const { prepaid, settled } of jobs)
      if (prepaid !== undefined) costs.push(settled ? { ...prepaid, device: undefined, fleet: undefined } : prepaid)
    for (const job of jobs) job.prepaid = undefined
    if (costs.length > 0) rateLimiter.giveBack(costs)
  }

  /** Its readings, or for a backlog its messages; a device that a fleet credential speaks for pays its own message and bytes as well. */
  function costsOfReadings(job: Job): readonly Cost[] {
    if (job.outcome?.kind !== 'events') return []
    job.owed ??= readingCosts(job.envelope.ingress, job.outcome.events, catchesUp)
    return job.owed
  }

  /** Settles what can't go on at all, keeps what stands behind a held message of its lane, and lets the rest pass. */
  function mayGoOn(job: Job): boolean {
    const { lane } = job.envelope
    if (closing && job.outcome === undefined)
      refuse(job, 'shutting_down', 'the gateway is stopping; send it again elsewhere')
    else if (lane?.closed) refuseAtLimit(job)
    else if (inHandBytes > maxInHandBytes && job.outcome === undefined)
      refuse(job, 'queue_full', 'too many bytes are in hand')
    else {
      const before = lane && waiting.jobsOf(lane)
      if (before === undefined) {
        if (job.holdsAnew) job.holdAnew(performance.now())
        return true
      }
      holdBehind(job, before)
    }
    return false
  }

  /** Spends what each job still owes; those over a limit are held in their lane, or refused when they cannot be. */
  async function limited(jobs: readonly Job[], costsOf: (job: Job) => readonly Cost[]): Promise<readonly Job[]> {
    const costs: Cost[] = []
    for (const job of jobs) {
      const isFirst = job.owed === undefined
      for (const cost of costsOf(job)) {
        if (isFirst) limitBooks.asked(cost)
        costs.push(cost)
      }
    }
    if (costs.length === 0) return jobs
    const waits = await rateLimiter.take(costs)
    const passed: Job[] = []
    // Older than all that an earlier stage has held of the same lane, so these go in front of them.
    const held = new Map<Lane, Job[]>()
    const now = performance.now()
    let next = 0
    for (const job of jobs) {
      const owed = costsOf(job)
      const longest = longestOf(waits, next, owed.length)
      const wait = longest < 0 ? undefined : waits[next + longest]
      for (let index = 0; index < owed.length; index++)
        if (waits[next + index] === undefined) limitBooks.passed(owed[index] as Cost)
      if (wait !== undefined) {
        noteLimited(job, wait, owed[longest] as Cost, now)
        job.owed = owed.filter((_, index) => waits[next + index] !== undefined)
      } else if (owed.length > 0) job.owed = []
      next += owed.length
      const { lane } = job.envelope
      const before = lane && held.get(lane)
      if (before !== undefined) holdBehind(job, before)
      else if (lane?.closed) refuseAtLimit(job)
      else if (wait === undefined) passed.push(job)
      else holdOrRefuse(job, wait, now, held)
    }
    for (const [lane, jobsOfLane] of held) waiting.hold(lane, jobsOfLane, untilMs(jobsOfLane[0] as Job, now))
    return passed
  }

  /** One message is one in the books, however often it asks. */
  function noteLimited(job: Job, wait: Wait, cost: Cost, now: number): void {
    if (job.isLimited) return
    job.isLimited = true
    const { tenant, device } = job.envelope.ingress.principal
    limitBooks.limited(tenant, (isShared(wait.limit) ? undefined : cost.device) ?? device, wait, now)
  }

  function holdOrRefuse(job: Job, wait: Wait, now: number, held: Map<Lane, Job[]>): void {
    job.wait = wait
    const { lane, holdUntilMs } = job.envelope
    if (lane === undefined || holdEndMs(job) <= now || closing) {
      // Held to its end: the source closes the connection, and what came behind may not overtake it on the way.
      if (lane !== undefined && holdUntilMs > 0) lane.closed = true
      refuseAtLimit(job)
      return
    }
    lane.isSharing = isShared(wait.limit)
    job.holdsAnew = lane.isSharing
    held.set(lane, [job])
  }

  function holdBehind(job: Job, before: Job[]): void {
    const [first] = before
    job.wait ??= first?.wait
    const { holdUntilMs, holdsShared } = job.envelope
    if (holdUntilMs <= 0 && holdsShared !== true) refuseAtLimit(job)
    else {
      job.holdsAnew ||= first?.holdsAnew === true
      before.push(job)
    }
  }

  function refuseAtLimit(job: Job): void {
    const limit = job.wait?.limit ?? 'device'
    limitBooks.refused(limit)
    refuse(job, 'rate_limited', `over the limit "${limit}"`, job.wait)
  }

  function decode(jobs: readonly Job[]): void {
    const fresh = jobs.filter((job) => job.outcome === undefined)
    const outcomes = normalizer.normalize(fresh.map(ingressOf))
    for (let index = 0; index < fresh.length; index++) {
      const job = fresh[index] as Job
      const outcome = outcomes[index] as NonNullable<Job['outcome']>
      job.outcome = outcome
      job.owed = undefined
      if (outcome.kind === 'ignored') settle(job, ignored)
      else if (outcome.kind === 'refused') refuse(job, outcome.code, outcome.message)
      else if (catchesUp && outcome.kind === 'events' && outcome.events.every(isBacklog))
        job.prepaid = isPaid(job.envelope) ? undefined : messageCost(job.envelope)
    }
  }

  /** A message that would be parked past a quota is treated as one over its device's limit: held, then refused. */
  function withinQuota(jobs: readonly Job[]): readonly Job[] {
    if (parkedQuota === undefined) return jobs
    const passed: Job[] = []
    const held = new Map<Lane, Job[]>()
    const now = performance.now()
    for (const job of jobs) {
      const { lane, holdUntilMs, ingress } = job.envelope
      const before = lane && held.get(lane)
      if (before !== undefined) {
        holdBehind(job, before)
        continue
      }
      if (lane?.closed) {
        refuseAtLimit(job)
        continue
      }
      const limit =
        job.outcome?.kind === 'dead' && !job.isParkingPaid ? parkedQuota.take(job.outcome.deadLetter) : undefined
      if (limit === undefined) {
        job.isParkingPaid = job.outcome?.kind === 'dead'
        passed.push(job)
        continue
      }
      // A fleet credential is else held until its turn, which may be a matter of days here.
      const untilMs = Math.min(holdUntilMs, ingress.arrivedAtMs + longestHoldMs)
      if (lane !== undefined && untilMs > now && !closing) held.set(lane, [job])
      else {
        if (lane !== undefined && holdUntilMs > 0) lane.closed = true
        const message = `over the limit "${limit}": ${limit.startsWith('device') ? 'its' : "its tenant's"} dead letters are too many bytes; mend, replay or purge them`
        settle(job, { kind: 'refused', code: 'rate_limited', message, limit, waitMs: quotaWaitMs })
      }
    }
    for (const [lane, jobsOfLane] of held)
      waiting.hold(lane, jobsOfLane, Math.min((jobsOfLane[0] as Job).envelope.holdUntilMs, now + longestHoldMs))
    return passed
  }

  function append(jobs: readonly Job[]): void {
    if (jobs.length === 0) return
    const events: TelemetryEvent[] = []
    const deadLetters: DeadLetter[] = []
    for (const { outcome } of jobs) {
      if (outcome?.kind === 'events') for (const event of outcome.events) events.push(event)
      else if (outcome?.kind === 'dead') deadLetters.push(outcome.deadLetter)
    }
    eventLog.append(events, deadLetters).then(
      () => {
        for (const job of jobs) settle(job, verdictOf(job))
      },
      (error: unknown) => {
        const full = error instanceof BridgeError && error.code === 'BRIDGE_EVENT_LOG_FULL'
        if (!(error instanceof BridgeError)) log.error({ err: error }, 'the event log failed in an unknown way')
        for (const job of jobs)
          refuse(
            job,
            full ? 'queue_full' : 'event_log_unavailable',
            'the event log does not answer; send it again later',
          )
      },
    )
  }

  function refuse(job: Job, code: ReasonCode, message: string, wait?: Wait): void {
    settle(job, { kind: 'refused', code, message, ...(wait && { limit: wait.limit, waitMs: wait.ms }) })
  }

  function settle(job: Job, verdict: Verdict): void {
    job.settled = true
    const { source, payload, arrivedAtMs } = job.envelope.ingress
    inHand--
    inHandBytes -= payload.length
    const seconds = (performance.now() - arrivedAtMs) / 1000
    if (verdict.kind === 'stored')
      accounts.accepted(source, job.outcome?.kind === 'events' ? job.outcome.events.length : 1, seconds)
    else if (verdict.kind === 'ignored') accounts.ignored(source, seconds)
    else if (verdict.kind === 'refused') accounts.refused(source, verdict.code)
    else if (job.envelope.ingress.acknowledgesParked) accounts.accepted(source, 1, seconds)
    else accounts.refused(source, verdict.code)
    try {
      job.envelope.settle(verdict)
    } catch (error) {
      log.error({ err: error }, 'a source failed to answer')
    }
    if (inHand === 0) drained?.()
  }
}

/** Which of the costs of a job waits longest; -1 when none does. */
function longestOf(waits: readonly (Wait | undefined)[], from: number, count: number): number {
  let longest = -1
  let longestMs = 0
  for (let index = 0; index < count; index++) {
    const wait = waits[from + index]
    if (wait === undefined || wait.ms <= longestMs) continue
    longest = index
    longestMs = wait.ms
  }
  return longest
}

/** When a held message asks again: when it may pass, or at the end of its hold. */
function untilMs(job: Job, now: number): number {
  return Math.min(now + Math.min(job.wait?.ms ?? 0, longestSleepMs), holdEndMs(job))
}

/** A limit that others share is not the sender's own fault: over it a connection waits for its part, however long that takes. */
function holdEndMs({ wait, holdUntilMs, envelope }: Job): number {
  return envelope.holdsShared === true && wait !== undefined && isShared(wait.limit)
    ? Number.POSITIVE_INFINITY
    : holdUntilMs
}

const unsettled = (job: Job) => !job.settled
const ingressOf = (job: Job): Ingress => job.envelope.ingress

/** One message and its bytes, garbage too. Before a fleet credential's message is decoded, only the fleet and the tenant can pay. */
function costsOfMessage(job: Job): readonly Cost[] {
  if (job.outcome !== undefined) return []
  job.owed ??= isPaid(job.envelope) ? [] : [messageCost(job.envelope)]
  return job.owed
}

/** Another message of its request has paid for it. */
const isPaid = ({ ingress }: Envelope) => ingress.charge?.messages === 0

function messageCost({ ingress: { principal, payload, charge } }: Envelope): Cost {
  return {
    tenant: principal.tenant,
    device: principal.fleet ? undefined : principal.device,
    fleet: principal.fleet ? principal.device : undefined,
    messages: charge?.messages ?? 1,
    readings: 0,
    bytes: charge?.bytes ?? payload.length,
  }
}

function readingCosts(
  { principal, payload, charge }: Ingress,
  events: readonly TelemetryEvent[],
  catchesUp: boolean,
): Cost[] {
  const costs: Cost[] = []
  const bytes = Math.ceil(payload.length / events.length)
  for (const event of events) {
    const { device, readings } = event
    const { tenant } = principal
    const fleet = principal.fleet ? principal.device : undefined
    if (catchesUp && isBacklog(event)) {
      // The first of a batch pays for all, or a batch above the limit would never come to its end.
      costs.push({ tenant, device, fleet, messages: 0, readings: 0, bytes: 0, catchUp: charge?.messages ?? 1 })
      continue
    }
    costs.push({
      tenant,
      device,
      fleet,
      messages: 0,
      readings: readings.length,
      bytes: 0,
    })
    if (principal.fleet)
      costs.push({ tenant, device, fleet: undefined, messages: 1, readings: 0, bytes, deviceOnly: true })
  }
  return costs
}

function verdictOf({ outcome }: Job): Verdict {
  if (outcome?.kind !== 'dead') return stored
  const { code, message, id } = outcome.deadLetter
  return { kind: 'parked', code, message, deadLetterId: id }
}
