/** A message that Aedes keeps for a session until it is acknowledged, or the PUBREL that takes its place. */
interface Kept {
  readonly cmd: string
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

const maxMessages = 1000
const maxBytes = 1024 * 1024

class Queue {
  messages = 0
  bytes = 0
  /** Payload bytes by packet id, since a PUBREL that stands for its message says nothing of them. */
  readonly sizes = new Map<number, number>()
}

/** Bounds what Aedes keeps for each session that outlives its connection: left alone it keeps everything. */
export class OfflineQueues {
  readonly #queues = new Map<string, Queue>()
  readonly #persistence: Persistence

  /** @param onDropped called for each message that a session had no room for */
  constructor(persistence: Persistence, onDropped: () => void) {
    this.#persistence = persistence
    const enqueue = persistence.outgoingEnqueueCombi.bind(persistence)
    const update = persistence.outgoingUpdate.bind(persistence)
    const clear = persistence.outgoingClearMessageId.bind(persistence)
    persistence.outgoingEnqueueCombi = (subscriptions, packet) => {
      const taking = subscriptions.filter(({ clientId }) => this.#take(clientId, packet))
      for (let left = subscriptions.length - taking.length; left > 0; left--) onDropped()
      return enqueue(taking, packet)
    }
    persistence.outgoingUpdate = (client, packet) => {
      const { cmd, messageId, payload } = packet
      if (cmd === 'publish' && messageId !== undefined)
        this.#queues.get(client.id)?.sizes.set(messageId, payload?.length ?? 0)
      return update(client, packet)
    }
    persistence.outgoingClearMessageId = async (client, packet) => {
      const cleared = await clear(client, packet)
      if (cleared !== undefined) this.#give(client.id, cleared)
      return cleared
    }
  }

  /** Drops all that waits for a session which has ended. */
  async empty(id: string): Promise<void> {
    for await (const packet of this.#persistence.outgoingStream({ id }))
      await this.#persistence.outgoingClearMessageId({ id }, packet)
  }

  #take(id: string, { payload }: Kept): boolean {
    let queue = this.#queues.get(id)
    if (queue === undefined) {
      queue = new Queue()
      this.#queues.set(id, queue)
    }
    const bytes = payload?.length ?? 0
    if (queue.messages >= maxMessages || (queue.messages > 0 && queue.bytes + bytes > maxBytes)) return false
    queue.messages++
    queue.bytes += bytes
    return true
  }

  #give(id: string, { messageId, payload }: Kept): void {
    const queue = this.#queues.get(id)
    if (queue === undefined) return
    const known = messageId === undefined ? undefined : queue.sizes.get(messageId)
    if (messageId !== undefined) queue.sizes.delete(messageId)
    queue.bytes -= known ?? payload?.length ?? 0
    if (--queue.messages === 0) this.#queues.delete(id)
  }
}
