import type { Answer, Message } from './message.ts'
import type { SimulatedDevice } from './simulated-device.ts'
import type { Wire } from './wire.ts'

export interface ConnectionHost {
  /** Called when there is something to send: the host asks back with {@link Connection.take} before the wires are used. */
  wake(connection: Connection): void
  settled(message: Message, answer: Answer): void
  /** One copy was answered; the message may wait for another. */
  answered(message: Message, answer: Answer): void
  opened(): void
  closed(): void
  failed(reason: string): void
  readonly stopping: boolean
}

const firstBackoffMs = 200
const lastBackoffMs = 5000

/** What a device's firmware does: queues its messages in order, sends them in a window, reconnects, and sends again what has no answer. */
export class Connection {
  readonly device: SimulatedDevice
  readonly #host: ConnectionHost
  #wire: Wire | undefined
  readonly #makeWire: (connection: Connection) => Wire
  /** In order: those under way first. */
  readonly #queue: Message[] = []
  #underWay = 0
  #open = false
  #opening = false
  #wanted = false
  #backoffMs = firstBackoffMs
  #notBeforeMs = 0
  #timer: NodeJS.Timeout | undefined
  #generation = 0
  wasOpen = false

  constructor(device: SimulatedDevice, host: ConnectionHost, makeWire: (connection: Connection) => Wire) {
    this.device = device
    this.#host = host
    this.#makeWire = makeWire
  }

  /** False while it is away on purpose. */
  get wanted(): boolean {
    return this.#wanted
  }

  get open(): boolean {
    return this.#open
  }

  get queued(): number {
    return this.#queue.length
  }

  get inFlight(): number {
    return this.#underWay
  }

  /** Goes in, and stays in until it is told to leave. */
  enter(): void {
    this.#wanted = true
    if (!this.#open && !this.#opening) void this.#tryToOpen()
  }

  /** Goes away on purpose; what is due meanwhile waits. */
  async leave(): Promise<void> {
    this.#wanted = false
    clearTimeout(this.#timer)
    const wire = this.#wire
    this.#drop()
    await wire?.close()
  }

  /** Its cable is cut: it tries to come back at once. */
  cut(): void {
    if (!this.#open) return
    const wire = this.#wire
    this.#drop()
    wire?.cut()
    this.#backoffMs = firstBackoffMs
    this.#retry(0)
  }

  enqueue(message: Message): void {
    // Behind a backlog a message waits for what is older, too.
    if (!this.#wanted || this.#queue.at(-1)?.delayed === true) message.delayed = true
    this.#queue.push(message)
    if (this.#open) this.#host.wake(this)
  }

  /** What may be sent now; it counts as under way from here on, and has to be given to {@link Connection.send}. */
  take(): readonly Message[] {
    const wire = this.#wire
    if (!this.#open || wire === undefined || performance.now() < this.#notBeforeMs) return []
    const from = this.#underWay
    if (from > 0 && wire.oneAtATime) return []
    const to = Math.min(this.#queue.length, wire.window)
    if (to <= from) return []
    const messages = this.#queue.slice(from, to)
    this.#underWay = to
    return messages
  }

  /** Sends what {@link take} gave. */
  send(messages: readonly Message[]): void {
    for (const message of messages) {
      message.sends++
      message.pending = message.copies
    }
    this.#wire?.send(messages)
  }

  #onAnswer(generation: number, message: Message, answer: Answer): void {
    if (generation !== this.#generation || message.settled) return
    this.#host.answered(message, answer)
    if (answer.kind === 'again') {
      // Whatever is under way behind it is sent again as well: a device keeps its order.
      this.#notBeforeMs = Math.max(this.#notBeforeMs, performance.now() + answer.waitMs)
      const index = this.#queue.indexOf(message)
      if (index >= 0) this.#underWay = Math.min(this.#underWay, index)
      setTimeout(() => this.#open && this.#host.wake(this), answer.waitMs + 1)
      return
    }
    if (--message.pending > 0) return
    message.settled = true
    const index = this.#queue.indexOf(message)
    if (index >= 0) {
      this.#queue.splice(index, 1)
      if (index < this.#underWay) this.#underWay--
    }
    this.#host.settled(message, answer)
    if (this.#underWay < this.#queue.length) this.#host.wake(this)
  }

  async #tryToOpen(): Promise<void> {
    this.#opening = true
    const generation = ++this.#generation
    const wire = this.#makeWire(this)
    this.#wire = wire
    try {
      await wire.open()
    } catch (error) {
      this.#opening = false
      if (generation !== this.#generation) return
      this.#host.failed((error as Error).message)
      this.#drop()
      if (this.#wanted) this.#retry(this.#nextBackoffMs())
      return
    }
    this.#opening = false
    if (generation !== this.#generation || !this.#wanted) {
      wire.cut()
      return
    }
    this.#open = true
    this.wasOpen = true
    this.#backoffMs = firstBackoffMs
    this.#host.opened()
    this.#host.wake(this)
  }

  /** For wires: what they tell counts only while they are the newest. */
  eventsOf(wire: () => Wire) {
    return {
      answered: (message: Message, answer: Answer) => {
        if (wire() === this.#wire) this.#onAnswer(this.#generation, message, answer)
      },
      lost: (reason: string) => {
        if (wire() !== this.#wire || this.#opening) return
        this.#drop()
        this.#host.failed(reason)
        if (this.#wanted) this.#retry(this.#nextBackoffMs())
      },
    }
  }

  #drop(): void {
    this.#generation++
    this.#wire = undefined
    this.#underWay = 0
    if (!this.#open) return
    this.#open = false
    this.#host.closed()
  }

  #nextBackoffMs(): number {
    const ms = this.#backoffMs * (0.5 + Math.random())
    this.#backoffMs = Math.min(lastBackoffMs, this.#backoffMs * 2)
    return ms
  }

  #retry(ms: number): void {
    clearTimeout(this.#timer)
    if (!this.#host.stopping) this.#timer = setTimeout(() => this.#wanted && void this.#tryToOpen(), ms)
  }
}
