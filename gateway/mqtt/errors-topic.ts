import type { ReasonCode } from '#schema/reason-code.ts'
import type { Principal } from '../auth/principal.ts'
import { insideName, insidePrefix } from './device-topics.ts'

/** What a device is told about a message that was refused or parked. */
export interface ErrorNotice {
  readonly code: ReasonCode
  readonly limit?: string | undefined
  readonly waitMs?: number | undefined
  /** Packet id; none at QoS 0. */
  readonly pid?: number | undefined
  /** The device of a fleet body that it is about. */
  readonly device?: string | undefined
}

/** PubSubClient and Zephyr drop larger packets, silently. */
const maxPacketBytes = 256
const maxPerSecond = 10

interface Listeners {
  count: number
  second: number
  sent: number
}

/**
 * Publishes what becomes of a device's messages on its `errors` topic: QoS 0, not retained, and only while somebody listens, at most ten a
 * second for each device.
 */
export class ErrorsTopic {
  readonly #publish: (insideTopic: string, payload: Buffer) => void
  readonly #listeners = new Map<string, Listeners>()

  constructor(publish: (insideTopic: string, payload: Buffer) => void) {
    this.#publish = publish
  }

  /** One more connection (or one fewer) has a subscription that covers the device's errors. */
  listen(principal: Principal, change: 1 | -1): void {
    const device = insideName(principal)
    const listeners = this.#listeners.get(device)
    if (listeners === undefined) {
      if (change === 1) this.#listeners.set(device, { count: 1, second: 0, sent: 0 })
    } else {
      listeners.count += change
      if (listeners.count === 0) this.#listeners.delete(device)
    }
  }

  tell(principal: Principal, notice: ErrorNotice, nowMs: number): void {
    if (this.#listeners.size === 0) return
    const listeners = this.#listeners.get(insideName(principal))
    if (listeners === undefined) return
    const second = Math.floor(nowMs / 1000)
    if (second !== listeners.second) {
      listeners.second = second
      listeners.sent = 0
    }
    if (listeners.sent++ >= maxPerSecond) return
    this.#publish(`${insidePrefix(principal)}errors`, payloadOf(notice, principal))
  }
}

/** As much of the notice as fits into a packet with the longest name that the topic may have. */
function payloadOf({ code, limit, waitMs, pid, device }: ErrorNotice, principal: Principal): Buffer {
  const room = maxPacketBytes - Buffer.byteLength(`devices/${principal.device}/errors`) - 8
  const whole = Buffer.from(JSON.stringify({ code, limit, waitMs, pid, device }))
  return whole.length <= room ? whole : Buffer.from(JSON.stringify({ code, limit, waitMs, pid }))
}
