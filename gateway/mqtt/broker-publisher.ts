import type { Aedes, PublishPacket } from 'aedes'

/** What its types leave out. */
interface Inside {
  readonly mq: { emit(packet: { topic: string }, done?: (error?: Error) => void): unknown }
  publish(packet: PublishPacket, from: { id: string } | undefined, done: (error?: Error) => void): void
}

interface Waiting {
  readonly packet: PublishPacket
  readonly from: { id: string } | undefined
  /** By which all gateways know it; undefined for one that stays in this one. */
  readonly number: number | undefined
  readonly done: (error?: Error) => void
}

/**
 * Publishes one message after the other, as far as their order counts. Aedes numbers messages when they come and hands them to its clients when
 * retained and offline copies are written, so one with QoS 0 overtakes one with QoS 1; and what comes to a client after a higher number it
 * drops, as a duplicate.
 */
export class BrokerPublisher {
  /** Called when Aedes is given a message. */
  onBegin: ((packet: PublishPacket, number: number, from: string | undefined) => void) | undefined
  readonly #aedes: Inside
  readonly #waiting: Waiting[] = []
  /** Taken by Aedes, and not handed to its clients yet. */
  #current: Waiting | undefined
  /** Clients that have got the current message already. */
  readonly #skipped = new Set<string>()
  #isRunning = false
  #pauses = 0
  #onPaused: (() => void)[] = []

  constructor(aedes: Aedes) {
    this.#aedes = aedes as unknown as Inside
    const { mq } = this.#aedes
    const emit = mq.emit.bind(mq)
    mq.emit = (packet, done) => {
      // With nobody who listens it is done at once, and the next is the current one when this returns.
      const current = this.#current
      const result = emit(packet, done)
      // Its own notes have topics below $SYS, where none of ours is.
      if (current !== undefined && packet.topic === current.packet.topic) this.#onHandedOn(current)
      return result
    }
  }

  /** The number of the message that Aedes is handing on. */
  get currentNumber(): number | undefined {
    return this.#current?.number
  }

  /** The current message is not for this client. */
  skip(id: string): void {
    this.#skipped.add(id)
  }

  isSkipped(id: string): boolean {
    return this.#skipped.size > 0 && this.#skipped.has(id)
  }

  /** @param from inside id of the client it comes from, which "no local" asks for */
  publish(packet: PublishPacket, from: string | undefined, done: (error?: Error) => void, number?: number): void {
    this.#waiting.push({ packet, from: from === undefined ? undefined : { id: from }, number, done })
    this.#run()
  }

  /** @param onPaused called when what was begun is handed on: nothing more is until `resume` */
  pause(onPaused: () => void): void {
    this.#pauses++
    if (this.#current === undefined) onPaused()
    else this.#onPaused.push(onPaused)
  }

  resume(): void {
    if (--this.#pauses === 0) this.#run()
  }

  #run(): void {
    if (this.#isRunning || this.#pauses > 0) return
    this.#isRunning = true
    while (this.#current === undefined && this.#pauses === 0) {
      const next = this.#waiting.shift()
      if (next === undefined) break
      this.#current = next
      if (next.number !== undefined) this.onBegin?.(next.packet, next.number, next.from?.id)
      this.#aedes.publish(next.packet, next.from, (error) => {
        this.#onHandedOn(next) // or never, when it failed
        next.done(error)
      })
    }
    this.#isRunning = false
  }

  #onHandedOn(message: Waiting): void {
    if (this.#current !== message) return
    this.#current = undefined
    if (this.#skipped.size > 0) this.#skipped.clear()
    const onPaused = this.#onPaused
    this.#onPaused = []
    for (const listener of onPaused) listener()
    this.#run()
  }
}
