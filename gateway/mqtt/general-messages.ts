import { stored } from '../verdict.ts'
import type { Client } from './client.ts'
import { insideName } from './device-topics.ts'
import type { Front } from './front.ts'
import type { Message } from './message.ts'
import { type ProtocolVersion, reasonCode } from './packet-types.ts'
import { keptProperties, type PublishPacket } from './publish-packet.ts'
import type { PublishTopic } from './topic.ts'
import type { Will } from './will.ts'

/** Properties of one message that can cross the broker. */
const maxCarriedBytes = 65_535

/** What one client says to others, in open mode. */
export class GeneralMessages {
  readonly #front: Front
  readonly #client: Client
  readonly #version: ProtocolVersion

  constructor(front: Front, client: Client, version: ProtocolVersion) {
    this.#front = front
    this.#client = client
    this.#version = version
  }

  /**
   * Hands a message to the broker; it is settled once the broker has handed it on.
   * @param packet as it lies in `bytes`
   * @param onFailed called for a fault of ours
   * @returns 0, or the code with which it is refused: it was not sent, and there will be no verdict
   */
  send(
    message: Message,
    topic: PublishTopic,
    packet: PublishPacket,
    bytes: Buffer,
    onFailed: (error: Error) => void,
  ): number {
    const { payload, packetId } = message
    const { inside } = topic
    const qos = message.qos as 0 | 1 | 2
    message.isGeneral = true
    const properties = keptProperties(packet, bytes)
    if (properties !== undefined && properties.length > maxCarriedBytes) return reasonCode.quotaExceeded
    const { expirySeconds } = packet
    const mayRetain = packet.retain && this.#mayRetain(inside, payload, expirySeconds)
    if (packet.retain && !mayRetain) {
      const pid = packetId === 0 ? undefined : packetId
      const notice = { code: 'rate_limited', limit: 'retained', pid } as const
      this.#front.errors.tell(this.#client.principal, notice, message.arrivedAtMs)
      if (this.#version === 5 && qos > 0) return reasonCode.quotaExceeded
    }
    // What is retained must not keep the whole chunk alive in which it came.
    const kept = mayRetain ? Buffer.from(payload) : payload
    const sent = { insideTopic: inside, payload: kept, qos, retain: mayRetain, properties, expirySeconds }
    this.#front.send(sent, this.#client.id, insideName(this.#client.principal), (error) => {
      if (error != null) onFailed(error)
      message.settle(error == null ? stored : { kind: 'refused', code: 'shutting_down', message: 'the broker failed' })
    })
    return 0
  }

  sendWill({ payload, qos, retain, properties, expirySeconds }: Will, insideTopic: string): void {
    const mayRetain = retain && this.#mayRetain(insideTopic, payload, expirySeconds)
    const sent = { insideTopic, payload, qos, retain: mayRetain, properties, expirySeconds }
    this.#front.send(sent, this.#client.id, insideName(this.#client.principal), () => {})
  }

  #mayRetain(inside: string, payload: Buffer, expirySeconds: number): boolean {
    return this.#front.retained.take(inside, payload, insideName(this.#client.principal), expirySeconds)
  }
}
