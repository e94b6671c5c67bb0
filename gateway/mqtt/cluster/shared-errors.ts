import type { Watchers } from '../watchers.ts'
import { errorsChannel, tenantOf } from './keys.ts'
import type { RedisLink } from './redis-link.ts'

/** How long an answer to "does anybody listen" is believed. */
const askedMs = 1000
/** A tenant that nobody has asked about for this long is forgotten. */
const forgetMs = 60_000

interface Asked {
  listens: boolean
  askedMs: number
  usedMs: number
}

/**
 * Notices of `errors` topics for subscribers on other gateways. Those may be thousands a second when a fleet is over its limit, so they go to
 * Redis only while another gateway has a subscriber who may see all of the tenant.
 */
export class SharedErrors {
  readonly #link: RedisLink
  readonly #watchers: Watchers
  readonly #asked = new Map<string, Asked>()
  /** Tenants for which this gateway listens. */
  readonly #listening = new Set<string>()
  #prunedMs = 0

  /** @param watchers says from now on who listens here */
  constructor(link: RedisLink, watchers: Watchers) {
    this.#link = link
    this.#watchers = watchers
    watchers.onGroup = (hidden, isWatched) => this.#onGroup(hidden, isWatched)
  }

  /** Whether somebody listens on another gateway, as far as is known now. */
  isWanted(tenant: string): boolean {
    if (!this.#link.isShared) return false
    const nowMs = performance.now()
    let asked = this.#asked.get(tenant)
    if (asked === undefined) {
      asked = { listens: false, askedMs: Number.NEGATIVE_INFINITY, usedMs: nowMs }
      this.#asked.set(tenant, asked)
    }
    asked.usedMs = nowMs
    if (nowMs - asked.askedMs > askedMs) this.#ask(tenant, asked, nowMs)
    return asked.listens
  }

  tell(insideTopic: string, payload: Buffer): void {
    const { commands, id } = this.#link
    const bytes = Buffer.concat([Buffer.from(`${id}\0${insideTopic}\0`), payload])
    this.#link.ask(() => commands.publish(errorsChannel(commands, tenantOf(insideTopic)), bytes)).catch(() => undefined)
  }

  /** @param publish hands a notice to the subscribers of this gateway */
  onEvent(bytes: Buffer, publish: (insideTopic: string, payload: Buffer) => void): void {
    const idEnd = bytes.indexOf(0)
    const topicEnd = bytes.indexOf(0, idEnd + 1)
    if (topicEnd < 0 || bytes.toString('latin1', 0, idEnd) === this.#link.id) return
    const topic = bytes.toString('utf8', idEnd + 1, topicEnd)
    if (this.#watchers.covers(topic)) publish(topic, Buffer.from(bytes.subarray(topicEnd + 1)))
  }

  resync(): void {
    for (const tenant of this.#listening) this.#listen(tenant, true)
  }

  #ask(tenant: string, asked: Asked, nowMs: number): void {
    asked.askedMs = nowMs
    const { commands } = this.#link
    this.#link
      .ask(() => commands.pubsub('NUMSUB', errorsChannel(commands, tenant)))
      .then(
        ([, count]) => (asked.listens = Number(count) > (this.#listening.has(tenant) ? 1 : 0)),
        () => (asked.listens = false),
      )
    if (nowMs - this.#prunedMs < forgetMs) return
    this.#prunedMs = nowMs
    for (const [each, { usedMs }] of this.#asked) if (nowMs - usedMs > forgetMs) this.#asked.delete(each)
  }

  #onGroup(hidden: string, isWatched: boolean): void {
    const tenant = hidden.slice(0, -1)
    // A device's own filters, and those below $SYS, are no reason.
    if (tenant.includes('/') || tenant.endsWith('$')) return
    if (isWatched) this.#listening.add(tenant)
    else this.#listening.delete(tenant)
    this.#listen(tenant, isWatched)
  }

  #listen(tenant: string, on: boolean): void {
    this.#link.listen(errorsChannel(this.#link.commands, tenant), on)
  }
}
