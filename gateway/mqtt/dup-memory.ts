/** How long a re-send finds the answer of its first copy. esp-mqtt forgets a message 30 s after its first send. */
export const rememberedMs = 60_000

const firstCapacity = 8
const maxCapacity = 128

/**
 * The last answers of one connection, for a DUP that crossed its PUBACK. A ring of numbers: it holds no payload, and at one message a second
 * it reaches back the whole minute; at higher rates a re-send is younger than its 128 entries.
 */
export class RecentAnswers {
  #entries: Float64Array | undefined
  #next = 0

  add(packetId: number, checksum: number, answer: number, nowMs: number): void {
    let entries = this.#entries
    if (entries === undefined) entries = this.#entries = new Float64Array(firstCapacity * width)
    let at = this.#next * width
    if (at >= entries.length) {
      const isOld = nowMs - (entries[timeOf] as number) > rememberedMs || entries.length >= maxCapacity * width
      if (isOld) this.#next = at = 0
      else {
        const larger = new Float64Array(entries.length * 2)
        larger.set(entries)
        this.#entries = entries = larger
      }
    }
    entries[at] = keyOf(packetId, answer)
    entries[at + checksumOf] = checksum
    entries[at + timeOf] = nowMs
    this.#next++
  }

  /** @returns the answer, or undefined when this message was not answered here within a minute */
  find(packetId: number, checksum: number, nowMs: number): number | undefined {
    const entries = this.#entries
    if (entries === undefined) return undefined
    for (let at = 0; at < entries.length; at += width) {
      const key = entries[at] as number
      if (Math.floor(key / 256) !== packetId || entries[at + checksumOf] !== checksum) continue
      if (nowMs - (entries[at + timeOf] as number) <= rememberedMs) return key % 256
    }
    return undefined
  }
}

const width = 3
const checksumOf = 1
const timeOf = 2

/** Packet ids begin at 1, so an empty entry is nobody's. */
function keyOf(packetId: number, answer: number): number {
  return packetId * 256 + answer
}

interface Unsent {
  readonly qos: number
  readonly packetId: number
  readonly checksum: number
  readonly answer: number
  readonly untilMs: number
}

const maxUnsent = 1000

/** Answers that no longer reached their connection, for the re-send on the next one. */
export class UnsentAnswers {
  #entries: Unsent[] = []

  get isEmpty(): boolean {
    return this.#entries.length === 0
  }

  add(qos: number, packetId: number, checksum: number, answer: number, nowMs: number): void {
    this.prune(nowMs)
    if (this.#entries.length >= maxUnsent) this.#entries.shift()
    this.#entries.push({ qos, packetId, checksum, answer, untilMs: nowMs + rememberedMs })
  }

  find(qos: number, packetId: number, checksum: number, nowMs: number): number | undefined {
    const found = this.#entries.find(
      (entry) =>
        entry.packetId === packetId && entry.checksum === checksum && entry.qos === qos && entry.untilMs >= nowMs,
    )
    return found?.answer
  }

  prune(nowMs: number): void {
    const [oldest] = this.#entries
    if (oldest !== undefined && oldest.untilMs < nowMs)
      this.#entries = this.#entries.filter(({ untilMs }) => untilMs >= nowMs)
  }

  clear(): void {
    this.#entries = []
  }
}
