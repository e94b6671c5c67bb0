import { setTimeout as sleep } from 'node:timers/promises'

const slowMs = 1000
const probeEveryMs = 1000
/** An answer of the last seconds is proof enough. */
const freshMs = 5000
const stuckMs = 60_000

/** For how long the log behind has not answered. */
export interface LogHealth {
  sendBegins(now: number): void
  /** @param wasTaken false: the send failed, so the log is away until a send or a probe succeeds */
  sendEnded(wasTaken: boolean): void
  answered(): void
  /** Milliseconds; 0 when it is well. */
  awayMs(): number
  close(): void
}

/**
 * Goes by the send that waits, or, when there is nothing to send, by a probe, so that /readyz is right without traffic.
 * @param probe resolves when the log behind answers
 * @param onStuck called when a send has waited for a minute although probes were answered all the while: it will not be answered any more
 */
export function startLogHealth(probe: (() => Promise<void>) | undefined, onStuck?: () => void): LogHealth {
  const stopping = new AbortController()
  let sendSinceMs: number | undefined
  let unansweredSinceMs: number | undefined
  let probesAnsweredSinceMs: number | undefined
  let answeredMs = performance.now()
  if (probe !== undefined) void run(probe)

  const health: LogHealth = {
    sendBegins(now) {
      sendSinceMs = now
    },
    sendEnded(wasTaken) {
      const began = sendSinceMs
      sendSinceMs = undefined
      if (wasTaken) health.answered()
      else unansweredSinceMs ??= began
    },
    answered() {
      answeredMs = performance.now()
      unansweredSinceMs = undefined
    },
    awayMs() {
      const now = performance.now()
      const waiting = sendSinceMs === undefined ? 0 : now - sendSinceMs
      const silent = unansweredSinceMs === undefined ? 0 : now - unansweredSinceMs
      return Math.max(waiting > slowMs ? waiting : 0, silent)
    },
    close() {
      stopping.abort()
    },
  }
  return health

  async function run(ask: () => Promise<void>): Promise<void> {
    const { signal } = stopping
    while (!signal.aborted) {
      await sleep(probeEveryMs, undefined, { ref: false, signal }).catch(() => undefined)
      const now = performance.now()
      const known = sendSinceMs === undefined && unansweredSinceMs === undefined && now - answeredMs < freshMs
      if (signal.aborted || known) continue
      try {
        await ask()
        probesAnsweredSinceMs ??= now
        if (sendSinceMs === undefined) health.answered()
        else unansweredSinceMs = undefined
      } catch {
        probesAnsweredSinceMs = undefined
        // One that began before the newest answer tells of the time before it.
        if (now > answeredMs) unansweredSinceMs ??= now
      }
      if (isStuck()) onStuck?.()
    }
  }

  function isStuck(): boolean {
    if (sendSinceMs === undefined || probesAnsweredSinceMs === undefined) return false
    return performance.now() - Math.max(sendSinceMs, probesAnsweredSinceMs) >= stuckMs
  }
}
