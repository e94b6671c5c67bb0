interface Retained {
  readonly owner: string
  readonly bytes: number
  readonly expiresAtMs: number
}

/** Owners may call themselves anything in open mode, so there is an end to all of them together. */
const maxOwners = 256

/** Bounds what the broker retains: topics and payloads of the messages that came from one device. */
export class RetainedMessages {
  readonly #maxBytes: number
  readonly #byTopic = new Map<string, Retained>()
  readonly #bytesOf = new Map<string, number>()
  #bytes = 0
  /** Hears of topics whose message has expired and is not counted any more. */
  onExpired: ((topic: string) => void) | undefined

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /**
   * Asks for room for a message that takes the place of the one that its topic may have; an empty payload gives the room back (MQTT 5.0 §3.3.1.3).
   * @param expirySeconds 0 for a message that stays
   * @returns false when there is none
   */
  take(topic: string, payload: Buffer, owner: string, expirySeconds: number): boolean {
    if (payload.length === 0) {
      this.#remove(topic)
      return true
    }
    const bytes = Buffer.byteLength(topic) + payload.length
    if (!this.#hasRoom(topic, bytes, owner)) {
      this.#removeExpired()
      if (!this.#hasRoom(topic, bytes, owner)) return false
    }
    this.#put(topic, bytes, owner, expirySeconds)
    return true
  }

  /** Counts a message that another gateway has taken. */
  took(topic: string, payload: Buffer, owner: string, expirySeconds: number): void {
    if (payload.length === 0) this.#remove(topic)
    else this.#put(topic, Buffer.byteLength(topic) + payload.length, owner, expirySeconds)
  }

  /** @param tenant counts those whose topics lie below it */
  countOf(tenant: string): number {
    let count = 0
    for (const topic of this.#byTopic.keys())
      if (topic.startsWith(`${tenant}/`) || topic.startsWith(`${tenant}$`)) count++
    return count
  }

  #put(topic: string, bytes: number, owner: string, expirySeconds: number): void {
    this.#remove(topic)
    const expiresAtMs = expirySeconds === 0 ? Number.POSITIVE_INFINITY : performance.now() + expirySeconds * 1000
    this.#byTopic.set(topic, { owner, bytes, expiresAtMs })
    this.#change(owner, bytes)
  }

  #hasRoom(topic: string, bytes: number, owner: string): boolean {
    const before = this.#byTopic.get(topic)
    const freed = before?.bytes ?? 0
    const own = (this.#bytesOf.get(owner) ?? 0) - (before?.owner === owner ? freed : 0)
    return own + bytes <= this.#maxBytes && this.#bytes - freed + bytes <= this.#maxBytes * maxOwners
  }

  #removeExpired(): void {
    const nowMs = performance.now()
    for (const [topic, { expiresAtMs }] of this.#byTopic)
      if (expiresAtMs < nowMs) {
        this.#remove(topic)
        this.onExpired?.(topic)
      }
  }

  #remove(topic: string): void {
    const before = this.#byTopic.get(topic)
    if (before === undefined) return
    this.#byTopic.delete(topic)
    this.#change(before.owner, -before.bytes)
  }

  #change(owner: string, by: number): void {
    this.#bytes += by
    const bytes = (this.#bytesOf.get(owner) ?? 0) + by
    if (bytes > 0) this.#bytesOf.set(owner, bytes)
    else this.#bytesOf.delete(owner)
  }
}
