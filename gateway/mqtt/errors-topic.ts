import type { ReasonCode } from '#schema/reason-code.ts'
import type { Principal } from '../auth/principal.ts'
import { insidePrefix } from './device-topics.ts'
import type { Watchers } from './watchers.ts'

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

/**
 * Publishes what becomes of a device's messages on its `errors` topic: QoS 0, not retained, and only while somebody listens, at most ten a
 * second for each device.
 */
export class ErrorsTopic {
  readonly #publish: (insideTopic: string, payload: Buffer) => void
  readonly #watchers: Watchers
  /** Notices of each topic in this second. */
  readonly #sent = new Map<string, number>()
  #second = 0
  /** Subscribers on other gateways; absent: there are no other gateways. */
  elsewhere: { isWanted(tenant: string): boolean; tell(insideTopic: string, payload: Buffer): void } | undefined

  constructor(publish: (insideTopic: string, payload: Buffer) => void, watchers: Watchers) {
    this.#publish = publish
    this.#watchers = watchers
  }

  tell(principal: Principal, notice: ErrorNotice, nowMs: number): void {
    const isWantedElsewhere = this.elsewhere?.isWanted(principal.tenant) === true
    if (this.#watchers.count === 0 && !isWantedElsewhere) return
    const topic = `${insidePrefix(principal)}errors`
    const second = Math.floor(nowMs / 1000)
    if (second !== this.#second) {
      this.#second = second
      this.#sent.clear()
    }
    const sent = this.#sent.get(topic) ?? 0
    if (sent >= maxPerSecond) return
    const isWantedHere = this.#watchers.covers(topic)
    if (!isWantedHere && !isWantedElsewhere) return
    this.#sent.set(topic, sent + 1)
    const payload = payloadOf(notice, principal)
    if (isWantedHere) this.#publish(topic, payload)
    if (isWantedElsewhere) this.elsewhere?.tell(topic, payload)
  }
}

/** As much of the notice as fits into a packet with the longest name that the topic may have. */
function payloadOf({ code, limit, waitMs, pid, device }: ErrorNotice, principal: Principal): Buffer {
  const room = maxPacketBytes - Buffer.byteLength(`devices/${principal.device}/errors`) - 8
  const whole = Buffer.from(JSON.stringify({ code, limit, waitMs, pid, device }))
  return whole.length <= room ? whole : Buffer.from(JSON.stringify({ code, limit, waitMs, pid }))
}
