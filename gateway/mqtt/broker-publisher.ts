import type { Aedes, PublishPacket } from 'aedes'

/** What its types leave out. */
interface Inside {
  readonly mq: { emit(packet: { topic: string }, done?: (error?: Error) => void): unknown }
  publish(packet: PublishPacket, from: { id: string } | undefined, done: (error?: Error) => void): void
}

interface Waiting {
  readonly packet: PublishPacket
  readonly from: { id: string } | undefined
  readonly done: (error?: Error) => void
}

/**
 * Publishes one message after the other, as far as their order counts. Aedes numbers messages when they come and hands them to its clients when
 * retained and offline copies are written, so one with QoS 0 overtakes one with QoS 1; and what comes to a client after a higher number it
 * drops, as a duplicate.
 */
export class BrokerPublisher {
  readonly #aedes: Inside
  readonly #waiting: Waiting[] = []
  /** Taken by Aedes, and not handed to its clients yet. */
  #current: Waiting | undefined
  #isRunning = false

  constructor(aedes: Aedes) {
    this.#aedes = aedes as unknown as Inside
    const { mq } = this.#aedes
    const emit = mq.emit.bind(mq)
    mq.emit = (packet, done) => {
      const result = emit(packet, done)
      // Its own notes have topics below $SYS, where none of ours is.
      if (packet.topic === this.#current?.packet.topic) this.#onHandedOn(this.#current)
      return result
    }
  }

  /** @param from inside id of the client it comes from, which "no local" asks for */
  publish(packet: PublishPacket, from: string | undefined, done: (error?: Error) => void): void {
    this.#waiting.push({ packet, from: from === undefined ? undefined : { id: from }, done })
    this.#run()
  }

  #run(): void {
    if (this.#isRunning) return
    this.#isRunning = true
    while (this.#current === undefined) {
      const next = this.#waiting.shift()
      if (next === undefined) break
      this.#current = next
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
    this.#run()
  }
}
