import { handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'
import type { Metrics } from '#platform/metrics.ts'
import type { DeadLetter } from '#schema/dead-letter.ts'
import type { TelemetryEvent } from '#schema/telemetry-event.ts'
import { type Append, AppendQueue, unavailable } from './append-queue.ts'
import type { EventLog } from './event-log.ts'
import { registerEventLogMetrics } from './event-log-metrics.ts'
import { startLogHealth } from './log-health.ts'

/** Makes a batch durable and resolves at the commit; called again only after it has settled. */
export type WriteDirect = (events: readonly TelemetryEvent[], deadLetters: readonly DeadLetter[]) => Promise<void>

export interface DirectEventLogOptions {
  readonly log: Log
  readonly metrics: Metrics
  /** How long an append may wait unsent. */
  readonly deadlineMs?: number
  readonly maxBufferBytes?: number
  /** False: nothing more is taken, as while the disk is almost full. */
  readonly mayTake?: () => boolean
  /** Resolves when the database answers; asked when nothing is written, so that /readyz is right without traffic. */
  readonly ping?: () => Promise<void>
}

interface Work {
  readonly events: readonly TelemetryEvent[]
  readonly deadLetters: readonly DeadLetter[]
}

const maxGroupRecords = 5000
const maxGroupBytes = 16 * 1024 * 1024
const flushMs = 5000

/**
 * Without a log between: one write at a time, and everything that came meanwhile joins the next one (group commit).
 * Never sends a write again: only the writer knows whether the last one was committed.
 */
export async function startDirectEventLog(write: WriteDirect, options: DirectEventLogOptions): Promise<EventLog> {
  const { log, metrics, deadlineMs = 10_000, maxBufferBytes = 64 * 1024 * 1024, mayTake, ping } = options
  const health = startLogHealth(ping)
  let writing = false
  const queue: AppendQueue<Work> = new AppendQueue({
    maxBytes: maxBufferBytes,
    deadlineMs,
    onSettled(seconds, error) {
      if (error === undefined) counted.appendSeconds.observe(seconds)
      else counted.failed(error.code === 'BRIDGE_EVENT_LOG_FULL' ? 'full' : 'unavailable')
    },
  })
  const counted = registerEventLogMetrics(metrics, { bufferedBytes: () => queue.bytes, awayMs: () => health.awayMs() })

  async function run(): Promise<void> {
    writing = true
    while (queue.length > 0) {
      const appends = queue.take(fitsGroup())
      const { events, deadLetters } = joined(appends)
      counted.batchRecords.observe(events.length + deadLetters.length)
      health.sendBegins(performance.now())
      const error = await write(events, deadLetters).then(
        () => undefined,
        (cause: unknown) => unavailable(`the database did not take it: ${(cause as Error).message}`, cause),
      )
      health.sendEnded(error === undefined)
      if (error !== undefined) log.warn({ err: error.cause }, 'a write failed: its messages are refused')
      for (const append of appends) append.settle(error)
    }
    writing = false
  }

  return {
    kind: 'direct',
    ackLevel: 'committed',
    append(events, deadLetters) {
      if (events.length + deadLetters.length === 0) return Promise.resolve()
      if (mayTake?.() === false) {
        counted.failed('unavailable')
        return Promise.reject(unavailable('the disk is almost full'))
      }
      const settled = queue.add({ events, deadLetters }, bytesOf(events, deadLetters))
      // After this turn, so that what arrives in it is one write.
      if (!writing && queue.length > 0) {
        writing = true
        setImmediate(() => void run())
      }
      return settled
    },
    awayMs: () => health.awayMs(),
    ...handleOf(async () => {
      const emptied = queue.close()
      const timer = setTimeout(() => queue.withdrawAll('the event log is closed'), flushMs)
      await emptied
      clearTimeout(timer)
      health.close()
    }),
  }
}

function fitsGroup(): (append: Append<Work>) => boolean {
  let records = 0
  let bytes = 0
  return ({ work, bytes: own }) => {
    records += work.events.length + work.deadLetters.length
    bytes += own
    return records <= maxGroupRecords && bytes <= maxGroupBytes
  }
}

function joined(appends: readonly Append<Work>[]): Work {
  const only = appends.length === 1 ? appends[0] : undefined
  if (only !== undefined) return only.work
  const events: TelemetryEvent[] = []
  const deadLetters: DeadLetter[] = []
  for (const { work } of appends) {
    for (const event of work.events) events.push(event)
    for (const deadLetter of work.deadLetters) deadLetters.push(deadLetter)
  }
  return { events, deadLetters }
}

/** About what they hold in memory; nothing is encoded here that could be measured. */
function bytesOf(events: readonly TelemetryEvent[], deadLetters: readonly DeadLetter[]): number {
  let bytes = 0
  for (const { device, readings, raw } of events) {
    bytes += 300 + device.length + (raw === undefined ? 0 : raw.payload.length)
    for (const { metric, text } of readings) bytes += 100 + metric.length + (text === undefined ? 0 : text.length * 2)
  }
  for (const { payload, topic } of deadLetters) bytes += 500 + topic.length + (payload === null ? 0 : payload.length)
  return bytes
}
