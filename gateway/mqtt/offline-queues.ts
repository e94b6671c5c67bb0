/** A message that Aedes keeps for a session until it is acknowledged, or the PUBREL that takes its place. */
export interface Kept {
  readonly cmd: string
  readonly brokerCounter?: number
  readonly messageId?: number | undefined
  readonly payload?: Buffer
}

/** As much of Aedes' memory persistence as we stand in front of. */
export interface Persistence {
  outgoingEnqueueCombi(subscriptions: readonly { clientId: string }[], packet: Kept): Promise<void>
  outgoingUpdate(client: { id: string }, packet: Kept): Promise<void>
  outgoingClearMessageId(client: { id: string }, packet: Kept): Promise<Kept | undefined>
  outgoingStream(client: { id: string }): AsyncIterable<Kept>
}

export interface OfflineQueuesOptions {
  /** Called for each message that a session had no room for. */
  readonly onDropped: () => void
  /** The number that all gateways know the message by that is being published; undefined for one that stays here. */
  readonly numberOfCurrent: () => number | undefined
  /** Called for a session that has the message already, by its number. */
  readonly onKnown: (id: string) => void
}

/** For each session, at this gateway and in Redis alike. */
export const maxWaitingMessages = 1000
export const maxWaitingBytes = 1024 * 1024

class Queue {
  messages = 0
  bytes = 0
  /** Payload bytes by packet id, since a PUBREL that stands for its message says nothing of them. */
  readonly sizes = new Map<number, number>()
  /** Numbers by Aedes' counter, and by packet id once there is one. */
  readonly byCounter = new Map<number, number>()
  readonly byPacketId = new Map<number, number>()
}

/** Bounds what Aedes keeps for each session that outlives its connection: left alone it keeps everything. */
export class OfflineQueues {
  readonly #queues = new Map<string, Queue>()
  readonly #emptying = new Map<string, Promise<void>>()
  /** Sessions that are shared with other gateways: what has this number or a lower one they have got, or have got already acknowledged. */
  readonly #knownUpTo = new Map<string, number>()
  readonly #persistence: Persistence
  readonly #enqueue: Persistence['outgoingEnqueueCombi']
  readonly #clear: Persistence['outgoingClearMessageId']

  constructor(persistence: Persistence, { onDropped, numberOfCurrent, onKnown }: OfflineQueuesOptions) {
    this.#persistence = persistence
    this.#enqueue = persistence.outgoingEnqueueCombi.bind(persistence)
    const update = persistence.outgoingUpdate.bind(persistence)
    this.#clear = persistence.outgoingClearMessageId.bind(persistence)
    persistence.outgoingEnqueueCombi = (subscriptions, packet) => {
      const number = numberOfCurrent()
      const taking = subscriptions.filter(({ clientId }) => {
        if (number !== undefined && this.#knows(clientId, number)) {
          onKnown(clientId)
          return false
        }
        const taken = this.#take(clientId, packet, number)
        if (!taken) onDropped()
        return taken
      })
      return this.#enqueue(taking, packet)
    }
    persistence.outgoingUpdate = (client, packet) => {
      const { cmd, messageId, payload, brokerCounter } = packet
      const queue = this.#queues.get(client.id)
      if (cmd === 'publish' && messageId !== undefined && queue !== undefined) {
        queue.sizes.set(messageId, payload?.length ?? 0)
        const number = brokerCounter === undefined ? undefined : queue.byCounter.get(brokerCounter)
        if (number !== undefined) queue.byPacketId.set(messageId, number)
      }
      // Not kept, since there was no room for it or since it was retained: Aedes would end the connection for that, but it can be delivered.
      return update(client, packet).catch(() => {})
    }
    persistence.outgoingClearMessageId = async (client, packet) => {
      // Of a copy that it does not deliver Aedes knows no packet id, and would clear another message that has none yet.
      if (packet.messageId === undefined) return undefined
      return await this.#remove(client.id, packet)
    }
  }

  /** A session as another gateway has left it: what is known up to a number is known to this one, too. */
  knowUpTo(id: string, number: number): void {
    this.#knownUpTo.set(id, number)
  }

  /** Keeps a message for a session, unless it has it already. @returns whether it does now */
  async add(id: string, packet: Kept, number: number): Promise<boolean> {
    if (this.#isKept(id, number) || !this.#take(id, packet, number)) return false
    await this.#enqueue([{ clientId: id }], packet)
    return true
  }

  /** By what number all gateways know a message that was sent to a client. */
  numberOf(id: string, packetId: number): number | undefined {
    return this.#queues.get(id)?.byPacketId.get(packetId)
  }

  /** What is kept for a session, with its numbers; PUBRELs are left out, since their message was received. */
  async *kept(id: string): AsyncIterable<{ packet: Kept; number: number | undefined }> {
    for await (const packet of this.#persistence.outgoingStream({ id })) {
      if (packet.cmd !== 'publish' || packet.brokerCounter === undefined) continue
      yield { packet, number: this.#queues.get(id)?.byCounter.get(packet.brokerCounter) }
    }
  }

  /** Redis has given a number to a message that was kept without. */
  setNumber(id: string, { brokerCounter, messageId }: Kept, number: number): void {
    const queue = this.#queues.get(id)
    if (queue === undefined || brokerCounter === undefined) return
    queue.byCounter.set(brokerCounter, number)
    if (messageId !== undefined) queue.byPacketId.set(messageId, number)
  }

  /** Drops all that waits for a session which has ended. One after the other: it takes its time, and what comes for the next session must stay. */
  empty(id: string): Promise<void> {
    const emptied = (this.#emptying.get(id) ?? Promise.resolve()).then(() => this.#empty(id))
    this.#emptying.set(id, emptied)
    const forget = () => {
      if (this.#emptying.get(id) === emptied) this.#emptying.delete(id)
    }
    emptied.then(forget, forget)
    return emptied
  }

  async #empty(id: string): Promise<void> {
    this.#knownUpTo.delete(id)
    for await (const packet of this.#persistence.outgoingStream({ id })) await this.#remove(id, packet)
  }

  async #remove(id: string, packet: Kept): Promise<Kept | undefined> {
    const cleared = await this.#clear({ id }, packet)
    if (cleared !== undefined) this.#give(id, cleared)
    return cleared
  }

  #knows(id: string, number: number): boolean {
    return number <= (this.#knownUpTo.get(id) ?? 0) || this.#isKept(id, number)
  }

  #isKept(id: string, number: number): boolean {
    const queue = this.#queues.get(id)
    if (queue === undefined || queue.byCounter.size === 0) return false
    for (const kept of queue.byCounter.values()) if (kept === number) return true
    return false
  }

  #take(id: string, { payload, brokerCounter }: Kept, number: number | undefined): boolean {
    let queue = this.#queues.get(id)
    if (queue === undefined) {
      queue = new Queue()
      this.#queues.set(id, queue)
    }
    const bytes = payload?.length ?? 0
    if (queue.messages >= maxWaitingMessages || (queue.messages > 0 && queue.bytes + bytes > maxWaitingBytes))
      return false
    queue.messages++
    queue.bytes += bytes
    if (number !== undefined && brokerCounter !== undefined) queue.byCounter.set(brokerCounter, number)
    return true
  }

  #give(id: string, { messageId, payload, brokerCounter }: Kept): void {
    const queue = this.#queues.get(id)
    if (queue === undefined) return
    const known = messageId === undefined ? undefined : queue.sizes.get(messageId)
    const number = messageId === undefined ? undefined : queue.byPacketId.get(messageId)
    if (messageId !== undefined) {
      queue.sizes.delete(messageId)
      queue.byPacketId.delete(messageId)
    }
    if (brokerCounter !== undefined) queue.byCounter.delete(brokerCounter)
    // A PUBREL has no counter: the number is found by its value.
    else for (const [counter, kept] of queue.byCounter) if (kept === number) queue.byCounter.delete(counter)
    queue.bytes -= known ?? payload?.length ?? 0
    if (--queue.messages === 0) this.#queues.delete(id)
  }
}
