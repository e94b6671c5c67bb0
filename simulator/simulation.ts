import type { Outbox } from './outbox.ts'
import type { Schedule } from './schedule.ts'
import type { Transport } from './transport.ts'

export interface PaceResult {
  /** Milliseconds from the first message's time to the end of sending. */
  readonly durationMs: number
  /** True when it was stopped before its time. */
  readonly stopped: boolean
  /** CPU time of this process meanwhile, microseconds. */
  readonly cpuUs: number
  /** Milliseconds for which answers were awaited after the last message was due. */
  readonly drainedMs: number
}

export interface PaceLimits {
  /** How long answers are awaited once the last message is due. */
  readonly drainMs: number
  readonly signal: AbortSignal
}

/** The shortest interval of Node's timers: what came due meanwhile goes out together. */
const tickMs = 1

/** Hands every message over at its time, whatever the answers do, and then waits for the answers that are missing. */
export async function runOpenLoop(
  schedule: Schedule,
  transport: Transport,
  outbox: Outbox,
  nowUs: () => number,
  limits: PaceLimits,
): Promise<PaceResult> {
  const cpu = process.cpuUsage()
  const startUs = nowUs()
  let next = 0
  await new Promise<void>((resolve) => {
    function tick(): void {
      const elapsedUs = nowUs() - startUs
      const due = schedule.dueBy(elapsedUs / 1000)
      if (next < due) outbox.tally.paced(elapsedUs - schedule.dueAtMs(next) * 1000)
      for (; next < due && !limits.signal.aborted; next++) {
        const device = schedule.deviceOf(next)
        outbox.due(device, startUs + schedule.dueAtMs(next) * 1000)
        transport.send(device)
      }
      if (next < schedule.total && !limits.signal.aborted) setTimeout(tick, tickMs)
      else resolve()
    }
    tick()
  })
  const sendingMs = (nowUs() - startUs) / 1000
  const drainedMs = await drain(outbox, limits)
  return { durationMs: sendingMs, stopped: next < schedule.total, cpuUs: cpuSince(cpu), drainedMs }
}

/** Every device sends its next message when an earlier one is answered, for a time: the most that the other side takes. */
export async function runClosedLoop(
  durationMs: number,
  transport: Transport,
  outbox: Outbox,
  limits: PaceLimits,
): Promise<PaceResult> {
  const cpu = process.cpuUsage()
  const start = performance.now()
  outbox.endless = true
  for (let device = 0; device < outbox.journal.devices; device++) transport.send(device)
  await until(() => performance.now() - start >= durationMs, limits.signal)
  outbox.endless = false
  const sendingMs = performance.now() - start
  const cpuUs = cpuSince(cpu)
  const drainedMs = await drain(outbox, limits)
  return { durationMs: sendingMs, stopped: limits.signal.aborted, cpuUs, drainedMs }
}

/** A stop while sending leaves time for the answers that are on their way. */
const drainAfterStopMs = 3000

async function drain(outbox: Outbox, limits: PaceLimits): Promise<number> {
  const start = performance.now()
  const drainMs = limits.signal.aborted ? Math.min(limits.drainMs, drainAfterStopMs) : limits.drainMs
  await until(() => {
    const { due, acknowledged, refused } = outbox.journal.totals()
    return acknowledged + refused >= due || performance.now() - start >= drainMs
  })
  return performance.now() - start
}

async function until(done: () => boolean, signal?: AbortSignal): Promise<void> {
  while (!done() && signal?.aborted !== true) await new Promise((resolve) => setTimeout(resolve, 10))
}

function cpuSince(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before)
  return user + system
}
