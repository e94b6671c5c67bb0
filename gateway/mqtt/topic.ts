import { isUtf8 } from 'node:buffer'
import { crc32 } from 'node:zlib'
import type { Principal } from '../auth/principal.ts'
import { insideTopic, maxInsideLevels } from './device-topics.ts'
import { isAnonymous, type OpenMode } from './open-mode.ts'
import { reasonCode } from './packet-types.ts'

/**
 * What a PUBLISH to a topic is, for one credential: one message, a body that speaks for several devices, a message from client to client (in
 * open mode), or nothing it may send.
 */
export type TopicUse = 'telemetry' | 'fleet_body' | 'general' | 'not_allowed'

export interface PublishTopic {
  /** As the device wrote it. */
  readonly name: string
  readonly use: TopicUse
  /** Checksum of the name, from which those of its messages go on. */
  readonly seed: number
  /** As the broker knows it. */
  readonly inside: string
  /** Whether somebody has subscribed to it, as of this epoch of the watchers. */
  isWatched: boolean
  watchedEpoch: number
}

/** Segments below `devices/{device}/` that are no telemetry: we publish there, or later will. */
const reserved = new Set(['errors', 'commands', 'receipts'])

/** What a credential may publish to a topic name, which has been checked for its syntax. */
export function useOfTopic(name: string, principal: Principal, open?: OpenMode): TopicUse {
  if (principal.operator || open?.denies(name) === true) return 'not_allowed'
  const segments = name.split('/')
  const [first, second, third] = segments
  if (first === 'devices' && segments.length > 2) {
    if (reserved.has(third as string)) return 'not_allowed'
    // Another device of a fleet credential is checked against its pattern where the payload's devices are, too.
    return second === 'me' || second === principal.device || principal.fleet ? 'telemetry' : 'not_allowed'
  }
  if (first === 'gateways' && second === 'me') {
    if (!principal.fleet || reserved.has(third as string)) return 'not_allowed'
    return third === 'telemetry' && segments.length === 3 ? 'fleet_body' : 'telemetry'
  }
  if (first === 'v1' && ((second === 'devices' && third === 'me') || second === 'gateway')) return 'telemetry'
  // The shadow of AWS IoT is the one format whose topics begin with $; the others are a server's own (MQTT 5.0 §4.7.2).
  const isPlain = !name.startsWith('$') || (first === '$aws' && second === 'things')
  if (principal.fleet && !isAnonymous(principal) && isPlain) return 'telemetry'
  const isOurs = first === '$SYS' || first === '$share'
  return open === undefined || isOurs || segments.length > maxInsideLevels ? 'not_allowed' : 'general'
}

/** What is wrong with the bytes of a topic name, as a reason code (MQTT 5.0 §1.5.4, §4.7.1, §4.7.3); 0 for nothing. */
export function faultOfTopicName(bytes: Buffer): number {
  if (bytes.length === 0) return reasonCode.protocolError
  if (bytes.includes(0) || !isUtf8(bytes)) return reasonCode.malformed
  return bytes.includes(0x2b) || bytes.includes(0x23) ? reasonCode.topicNameInvalid : 0
}

/** How large a topic name or filter may be. */
export interface TopicLimits {
  readonly maxTopicLevels: number
  readonly maxTopicBytes: number
}

/** Whether a topic name or filter has too many bytes or levels. */
export function isTooLarge(bytes: Buffer, { maxTopicLevels, maxTopicBytes }: TopicLimits): boolean {
  if (bytes.length > maxTopicBytes) return true
  let levels = 1
  for (const byte of bytes) if (byte === 0x2f) levels++
  return levels > maxTopicLevels
}

/** Topics of one connection: a gateway has one for each of its devices. */
const maxTopics = 1024
/** Longer names are looked at each time, so that nobody fills the memory with them. */
const maxKnownBytes = 512

/** The topics that a connection publishes to, found by their bytes: looking at a topic costs only once. */
export class PublishTopics {
  readonly #principal: Principal
  readonly #limits: TopicLimits
  readonly #open: OpenMode | undefined
  readonly #byBytes = new Map<string, PublishTopic>()
  #lastBytes = ''
  #last: PublishTopic | undefined

  constructor(principal: Principal, limits: TopicLimits, open?: OpenMode) {
    this.#principal = principal
    this.#limits = limits
    this.#open = open
  }

  /** @returns a reason code when the bytes are no topic name */
  find(bytes: Buffer, start: number, end: number): PublishTopic | number {
    const key = bytes.toString('latin1', start, end)
    if (key === this.#lastBytes && this.#last !== undefined) return this.#last
    let topic = this.#byBytes.get(key)
    if (topic === undefined) {
      const nameBytes = bytes.subarray(start, end)
      const fault = faultOfTopicName(nameBytes)
      if (fault !== 0) return fault
      if (isTooLarge(nameBytes, this.#limits)) return reasonCode.topicNameInvalid
      const name = nameBytes.toString()
      topic = {
        name,
        use: useOfTopic(name, this.#principal, this.#open),
        seed: crc32(nameBytes),
        inside: insideTopic(name, this.#principal),
        isWatched: false,
        watchedEpoch: -1,
      }
      if (nameBytes.length > maxKnownBytes) return topic
      if (this.#byBytes.size >= maxTopics) this.#byBytes.clear()
      this.#byBytes.set(key, topic)
    }
    this.#lastBytes = key
    this.#last = topic
    return topic
  }
}
