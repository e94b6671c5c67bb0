import type { ISubscription } from 'mqtt-packet'
import type { Principal } from '../auth/principal.ts'
import type { Client } from './client.ts'
import { readControlPacket, writeControlPacket } from './control-packet.ts'
import { covers, type FilterRefusal, insidePrefix, ownFilter } from './device-topics.ts'
import type { ErrorsTopic } from './errors-topic.ts'
import { variableByteInteger } from './frame.ts'
import { type ProtocolVersion, packetType, reasonCode } from './packet-types.ts'

/** SUBSCRIBEs that the broker has not answered. */
const maxWaiting = 100

/** What a packet becomes: one for the broker, or the answer itself. */
export interface Passed {
  readonly broker?: Buffer
  readonly client?: Buffer
}

/** A SUBSCRIBE on its way: the codes of what was refused, and which of the broker's codes belongs to each of the others. */
interface Waiting {
  readonly codes: number[]
  /** Index into `codes` for each filter that the broker was asked for. */
  readonly asked: readonly number[][]
}

/**
 * The subscriptions of one connection: turns names as the device writes them into those inside the broker and back. A device sees only what is
 * below its own name; a refused filter gets its code in the SUBACK, and the connection stays.
 */
export class Subscriptions {
  readonly #principal: Principal
  readonly #version: ProtocolVersion
  readonly #client: Client
  readonly #errors: ErrorsTopic
  readonly #maxFilters: number
  readonly #inside: string
  readonly #waiting = new Map<number, Waiting>()
  #isListening = false

  constructor(client: Client, version: ProtocolVersion, errors: ErrorsTopic, maxFilters: number) {
    this.#client = client
    this.#principal = client.principal
    this.#version = version
    this.#errors = errors
    this.#maxFilters = maxFilters
    this.#inside = insidePrefix(client.principal)
    this.#listen()
  }

  /**
   * @returns what the broker and the client get, or a reason code for a packet that ends the connection
   */
  subscribe(bytes: Buffer): Passed | number {
    const packet = readControlPacket(bytes, this.#version)
    if (packet?.cmd !== 'subscribe') return reasonCode.malformed
    const { messageId, subscriptions, properties } = packet
    if (messageId === undefined || messageId === 0 || subscriptions.length === 0) return reasonCode.protocolError
    if (this.#waiting.size >= maxWaiting || this.#waiting.has(messageId)) return reasonCode.protocolError
    const codes: number[] = []
    const asked = new Map<string, { subscription: ISubscription; at: number[] }>()
    for (const subscription of subscriptions) {
      const own = ownFilter(subscription.topic, this.#principal)
      if (typeof own === 'string') codes.push(this.#refusal(own))
      else if (!this.#client.filters.has(own.rest) && this.#client.filters.size >= this.#maxFilters)
        codes.push(this.#version === 5 ? reasonCode.quotaExceeded : failure)
      else {
        this.#client.filters.set(own.rest, own.prefix)
        const topic = this.#inside + own.rest
        // Two names for the same filter are one inside, where Aedes would answer them with one code, too.
        const at = asked.get(topic)?.at ?? []
        at.push(codes.length)
        asked.set(topic, { subscription: { ...subscription, topic }, at })
        codes.push(0)
      }
    }
    if (asked.size === 0) return { client: this.#suback(messageId, codes) }
    this.#listen()
    this.#waiting.set(messageId, { codes, asked: [...asked.values()].map(({ at }) => at) })
    const broker = writeControlPacket(
      {
        cmd: 'subscribe',
        messageId,
        subscriptions: [...asked.values()].map(({ subscription }) => subscription),
        ...(properties?.subscriptionIdentifier !== undefined && {
          properties: { subscriptionIdentifier: properties.subscriptionIdentifier },
        }),
      },
      this.#version,
    )
    return broker === undefined ? reasonCode.malformed : { broker }
  }

  unsubscribe(bytes: Buffer): Passed | number {
    const packet = readControlPacket(bytes, this.#version)
    if (packet?.cmd !== 'unsubscribe') return reasonCode.malformed
    const { messageId, unsubscriptions } = packet
    if (messageId === undefined || messageId === 0 || unsubscriptions.length === 0) return reasonCode.protocolError
    const names = unsubscriptions.map((filter) => {
      const own = ownFilter(filter, this.#principal)
      // A filter that was never granted is none that the broker knows.
      if (typeof own === 'string') return `${this.#principal.tenant}/none`
      this.#client.filters.delete(own.rest)
      return this.#inside + own.rest
    })
    this.#listen()
    const broker = writeControlPacket({ cmd: 'unsubscribe', messageId, unsubscriptions: names }, this.#version)
    return broker === undefined ? reasonCode.malformed : { broker }
  }

  /** @param bytes the broker's SUBACK @returns the client's, which answers every filter it asked for */
  onSuback(bytes: Buffer, body: number): Buffer {
    const messageId = bytes.readUInt16BE(body)
    const waiting = this.#waiting.get(messageId)
    if (waiting === undefined) return bytes
    this.#waiting.delete(messageId)
    const { codes, asked } = waiting
    const granted = bytes.subarray(bytes.length - asked.length)
    asked.forEach((places, index) => {
      for (const place of places) codes[place] = granted[index] as number
    })
    return this.#suback(messageId, codes)
  }

  /** @param bytes a PUBLISH of the broker @returns it with the topic as the device names it; undefined when it is not the device's */
  onPublish(bytes: Buffer, start: number, body: number, end: number): Buffer | undefined {
    const length = bytes.readUInt16BE(body)
    const inside = bytes.toString('utf8', body + 2, body + 2 + length)
    if (!inside.startsWith(this.#inside)) return undefined
    const rest = inside.slice(this.#inside.length)
    const topic = Buffer.from(this.#prefixFor(rest) + rest)
    const remaining = end - body - length + topic.length
    const header = [bytes[start] as number, ...variableByteInteger(remaining), topic.length >> 8, topic.length & 0xff]
    return Buffer.concat([Buffer.from(header), topic, bytes.subarray(body + 2 + length, end)])
  }

  close(): void {
    if (this.#isListening) this.#errors.listen(this.#principal, -1)
    this.#isListening = false
  }

  #prefixFor(rest: string): string {
    for (const [filter, prefix] of this.#client.filters) if (covers(filter, rest)) return prefix
    return 'devices/me/'
  }

  #listen(): void {
    const listens = [...this.#client.filters.keys()].some((filter) => covers(filter, 'errors'))
    if (listens !== this.#isListening) this.#errors.listen(this.#principal, listens ? 1 : -1)
    this.#isListening = listens
  }

  #refusal(refusal: FilterRefusal): number {
    if (this.#version < 5) return failure
    if (refusal === 'shared') return reasonCode.sharedSubscriptionsNotSupported
    return refusal === 'invalid' ? reasonCode.topicFilterInvalid : reasonCode.notAuthorized
  }

  #suback(messageId: number, codes: readonly number[]): Buffer {
    const head = [messageId >> 8, messageId & 0xff, ...(this.#version === 5 ? [0] : [])]
    const size = variableByteInteger(head.length + codes.length)
    return Buffer.concat([Buffer.from([packetType.suback << 4, ...size, ...head]), Buffer.from(codes)])
  }
}

/** The one failure code of a 3.1.1 SUBACK. */
const failure = 0x80
