import { setTimeout as sleep } from 'node:timers/promises'
import { pingBrokers } from '#platform/kafka-wire.ts'

const slowMs = 1000
const probeEveryMs = 1000
/** Answers of the last seconds are proof enough. */
const freshMs = 5000
const probeTimeoutMs = 3000
const stuckMs = 60_000

/**
 * How long Kafka has not answered: from the send that waits, or, when there is nothing to send, from a probe, so that /readyz is right
 * without traffic.
 */
export class KafkaHealth {
  private readonly brokers: readonly string[]
  private readonly onStuck: () => void
  private readonly stopping = new AbortController()
  private sendSinceMs: number | undefined
  private unansweredSinceMs: number | undefined
  private answeredMs = performance.now()
  private probeAnsweredSinceMs: number | undefined

  /**
   * @param onStuck called when a send has waited for a minute although Kafka answers all the while: kafkajs has lost it
   */
  constructor(brokers: readonly string[], onStuck: () => void) {
    this.brokers = brokers
    this.onStuck = onStuck
    void this.probe()
  }

  sendBegins(now: number): void {
    this.sendSinceMs = now
  }

  sendEnded(): void {
    this.sendSinceMs = undefined
    this.answered()
  }

  answered(): void {
    this.answeredMs = performance.now()
    this.unansweredSinceMs = undefined
  }

  /** @param open false: there is no producer, so the log is away since it last answered */
  awayMs(open: boolean): number {
    const now = performance.now()
    const waiting = this.sendSinceMs === undefined ? 0 : now - this.sendSinceMs
    const silent = this.unansweredSinceMs === undefined ? 0 : now - this.unansweredSinceMs
    return Math.max(waiting > slowMs ? waiting : 0, silent, open ? 0 : now - this.answeredMs)
  }

  close(): void {
    this.stopping.abort()
  }

  private async probe(): Promise<void> {
    const { signal } = this.stopping
    while (!signal.aborted) {
      await sleep(probeEveryMs, undefined, { ref: false, signal }).catch(() => undefined)
      const now = performance.now()
      if (signal.aborted || (this.sendSinceMs === undefined && now - this.answeredMs < freshMs)) continue
      try {
        await pingBrokers(this.brokers, probeTimeoutMs)
        this.probeAnsweredSinceMs ??= now
        if (this.sendSinceMs === undefined) this.answered()
        else this.unansweredSinceMs = undefined
      } catch {
        this.probeAnsweredSinceMs = undefined
        this.unansweredSinceMs ??= now
      }
      this.lookForStuckSend()
    }
  }

  private lookForStuckSend(): void {
    const since = Math.max(
      this.sendSinceMs ?? Number.POSITIVE_INFINITY,
      this.probeAnsweredSinceMs ?? Number.POSITIVE_INFINITY,
    )
    if (performance.now() - since < stuckMs) return
    this.sendSinceMs = undefined
    this.onStuck()
  }
}
