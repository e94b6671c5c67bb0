import type { Message } from './message.ts'
import { pending, withheld } from './message.ts'

/** The unanswered QoS 1 and 2 messages of one connection in the order in which they came, which is that of their answers [MQTT-4.6.0-2]. */
export class InHand {
  #first: Message | undefined
  #last: Message | undefined
  #weight = 0
  #exchanges = 0

  get first(): Message | undefined {
    return this.#first
  }

  /** Messages, where a body that speaks for many devices weighs more. */
  get weight(): number {
    return this.#weight
  }

  /** Packet ids in use: a re-send has that of its first copy. */
  get exchanges(): number {
    return this.#exchanges
  }

  add(message: Message): void {
    if (!message.isResend) this.#exchanges++
    if (this.#last === undefined) this.#first = message
    else this.#last.next = message
    this.#last = message
    this.#weight += message.weight
  }

  find(qos: number, packetId: number, checksum: number): Message | undefined {
    for (let message = this.#first; message !== undefined; message = message.next)
      if (message.isSame(qos, packetId, checksum)) return message
    return undefined
  }

  /** Takes out those at the front that have their answer; they stay linked by `next` up to `count`. */
  takeAnswered(): { readonly first: Message; readonly count: number } | undefined {
    const first = this.#first
    let count = 0
    let message = first
    for (; message !== undefined && message.answer !== pending && message.answer !== withheld; message = message.next) {
      count++
      if (!message.isResend) this.#exchanges--
      this.#weight -= message.weight
    }
    if (first === undefined || count === 0) return undefined
    this.#first = message
    if (message === undefined) this.#last = undefined
    return { first, count }
  }

  /** Takes out all. */
  takeAll(): Message[] {
    const all: Message[] = []
    for (let message = this.#first; message !== undefined; message = message.next) all.push(message)
    this.#first = this.#last = undefined
    this.#weight = this.#exchanges = 0
    return all
  }
}
