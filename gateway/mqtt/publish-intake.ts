import { crc32 } from 'node:zlib'
import type { Principal } from '../auth/principal.ts'
import type { Lane } from '../envelope.ts'
import type { JsonMember } from '../normalize/split-json.ts'
import type { Verdict } from '../verdict.ts'
import { answerPackets, pubcomp } from './answer-packets.ts'
import { answerTo, eventLogAway } from './answers.ts'
import type { Client } from './client.ts'
import { insideTopic } from './device-topics.ts'
import { RecentAnswers } from './dup-memory.ts'
import { membersOf, pushMessage, weightOf } from './fleet-body.ts'
import type { Front } from './front.ts'
import { GeneralMessages } from './general-messages.ts'
import { InHand } from './in-hand.ts'
import type { IntakeHost, IntakeSettings } from './intake-host.ts'
import { kept, Message, type MessageOwner, pending, type Refused, withheld } from './message.ts'
import { type ProtocolVersion, reasonCode } from './packet-types.ts'
import type { PublishPacket } from './publish-packet.ts'
import { isWatched, showTelemetry } from './shown-telemetry.ts'
import type { TenantStats } from './sys-topics.ts'
import { type PublishTopic, PublishTopics, useOfTopic } from './topic.ts'
import type { Will } from './will.ts'

/** Topic aliases that an MQTT 5 client may use (CONNACK says so). */
export const maxTopicAlias = 32
/** QoS 2 messages without their PUBREL. */
const maxReceived = 1000
/** QoS 0 waits this long for room while the pipeline moves: a burst is no reason to drop. */
const qos0PatienceMs = 250
/** The limit's own refusal comes first, since it says more. */
const deadlineGraceMs = 250
const nothing = Buffer.alloc(0)

/** Takes the PUBLISHes of one connection into the pipeline, and answers them in the order in which they came. */
export class PublishIntake implements MessageOwner {
  readonly #front: Front
  readonly #host: IntakeHost
  readonly #client: Client
  readonly #principal: Principal
  readonly #version: ProtocolVersion
  readonly #holdMs: number
  readonly #topics: PublishTopics
  readonly #aliases = new Map<number, PublishTopic>()
  readonly #inHand = new InHand()
  readonly #recent = new RecentAnswers()
  readonly #general: GeneralMessages
  readonly #stats: TenantStats
  /** QoS 2 messages without their PUBREL that there may be: an MQTT 5 client is told our Receive Maximum, and its count begins anew with each connection. */
  readonly #maxReceived: number
  /** Weight of the QoS 0 messages in hand. */
  #unanswered = 0
  /** When the pipeline last took something off an otherwise empty hand, or settled something. */
  #movedMs = 0
  #blockedMs = 0
  #isDirty = false
  #hasLeft = false

  constructor(front: Front, host: IntakeHost, client: Client, { version, holdMs }: IntakeSettings) {
    this.#front = front
    this.#host = host
    this.#client = client
    this.#principal = client.principal
    this.#version = version
    this.#holdMs = holdMs
    this.#topics = new PublishTopics(client.principal, front.config, front.open)
    this.#general = new GeneralMessages(front, client, version)
    this.#stats = front.sys.statsOf(client.principal.tenant)
    this.#maxReceived = version === 5 ? front.config.maxInHandMessages + client.received.size : maxReceived
  }

  get isEmpty(): boolean {
    return this.#inHand.weight === 0 && this.#unanswered === 0
  }

  /**
   * One PUBLISH.
   * @returns false when there is no room for it: it comes again after `onRoom`
   */
  take(bytes: Buffer, start: number, body: number, end: number): boolean {
    const packet = this.#front.publish
    const fault = packet.read(bytes, start, body, end, this.#version)
    if (fault !== 0) return this.#fault(fault)
    const topic = this.#topicOf(packet, bytes)
    if (typeof topic === 'number') return this.#fault(topic)
    const payload = bytes.subarray(packet.payloadStart, packet.end)
    if (packet.qos === 0) return this.#takeUnanswered(packet, topic, payload, bytes)
    const checksum = crc32(payload, topic.seed)
    if (packet.dup || packet.qos === 2) {
      const joined = this.#join(packet, topic, payload, checksum)
      if (joined !== undefined) return joined
      if (packet.qos === 2 && this.#inHand.exchanges + this.#client.received.size >= this.#maxReceived)
        return this.#fault(reasonCode.receiveMaximumExceeded)
    }
    const isRefused = topic.use === 'not_allowed'
    const parks = this.#version < 5 && !this.#principal.operator && this.#client.pacing.timesRefused(checksum) >= 2
    if (isRefused && !parks) return this.#refuse(packet, topic, checksum)
    const members = membersOf(topic.name, payload)
    const weight = weightOf(members)
    if (!this.#hasRoom(payload.length, weight)) return false
    const message = this.#message(packet, topic, kept(payload, bytes), checksum)
    if (parks) {
      this.#client.pacing.forget(checksum)
      message.park = 'not_allowed'
    }
    message.weight = weight
    this.#inHand.add(message)
    if (topic.use === 'general') this.#forward(message, topic, packet, bytes)
    else this.#push(message, members)
    return true
  }

  /**
   * PUBREL: the second half of QoS 2.
   * @returns 0, or the reason code with which the connection ends
   */
  release(bytes: Buffer, body: number, end: number): number {
    if (end - body < 2) return reasonCode.malformed
    const packetId = bytes.readUInt16BE(body)
    const isKnown = this.#client.received.delete(packetId)
    const code = isKnown || this.#version < 5 ? reasonCode.success : reasonCode.packetIdNotFound
    this.#host.write(pubcomp(packetId, code))
    return 0
  }

  /** The will of a connection that was lost goes down the path like a message, but nobody waits for its answer. */
  publishWill(will: Will, lane: Lane, nowMs: number, nowUs: number): void {
    const { topic, payload, contentType } = will
    const inside = insideTopic(topic, this.#principal)
    if (useOfTopic(topic, this.#principal, this.#front.open) === 'general') {
      this.#general.sendWill(will, inside)
      return
    }
    const message = new Message(this, this.#principal, lane, {
      qos: 0,
      packetId: 0,
      checksum: 0,
      client: this.#client.id,
      resend: false,
      topic,
      contentType,
      payload,
      acknowledgesParked: true,
      holdUntilMs: nowMs + this.#front.config.holdMs,
      ingestTimeUs: nowUs,
      arrivedAtMs: nowMs,
    })
    const members = membersOf(topic, payload)
    message.bytes = 0 // not of the client's share, which may be used up
    message.weight = weightOf(members)
    if (this.#front.watchers.isAny) message.inside = inside
    this.#push(message, members)
  }

  onSettled(message: Message, verdict: Verdict): void {
    this.#client.bytes -= message.bytes
    message.bytes = 0
    this.#movedMs = performance.now()
    if (message.inside !== undefined && verdict.kind === 'stored' && message.original === undefined)
      showTelemetry(this.#front, message, message.inside)
    if (verdict.kind !== 'stored' && verdict.kind !== 'ignored' && message.original === undefined)
      this.#tell(message, verdict)
    if (message.qos === 0) {
      this.#onUnansweredSettled(message, verdict)
      return
    }
    this.#setAnswer(message, verdict)
    const { copies } = message
    message.copies = undefined
    if (copies !== undefined) for (const copy of copies) copy.owner.onOriginalSettled(copy, message, verdict)
    if (this.#hasLeft) this.#onOrphanSettled(message)
    else if (message === this.#inHand.first) this.#markDirty()
  }

  onOriginalSettled(copy: Message, original: Message, verdict: Verdict): void {
    const isOwn = !original.isGeneral && original.owner !== this && !this.#hasLeft && copy.bytes > 0
    if (isOwn && verdict.kind === 'refused' && verdict.code !== 'not_allowed' && !this.#isPastHold(copy)) {
      // The first copy's hold was over, or its connection; this one has time left, and bytes of its own.
      copy.original = undefined
      if (original.park !== undefined) copy.park = original.park
      this.#push(copy, membersOf(copy.topic, copy.payload))
    } else this.onSettled(copy, verdict)
  }

  /** Writes what is answered, in order, as one; then the connection may have to end. */
  flush(): void {
    this.#isDirty = false
    if (this.#hasLeft) return
    this.writeAnswers()
    const first = this.#inHand.first
    if (first?.refusal !== undefined) this.#withhold(first, first.refusal)
    else this.#host.onRoom()
  }

  fail(error: unknown): void {
    this.#host.fail(error)
  }

  writeAnswers(): void {
    const answered = this.#inHand.takeAnswered()
    if (answered === undefined) return
    const nowMs = performance.now()
    let message: Message | undefined = answered.first
    for (let left = answered.count; left > 0 && message !== undefined; left--, message = message.next) {
      const { qos, packetId, checksum, answer } = message
      if (qos === 1) this.#recent.add(packetId, checksum, answer, nowMs)
      else if (answer < reasonCode.unspecified) this.#client.received.set(packetId, checksum)
    }
    this.#host.write(answerPackets(answered.first, answered.count))
  }

  /** Time passes: a message that the event log has not answered for by its deadline ends the connection, or a client would wait for ever. */
  tick(nowMs: number): void {
    const first = this.#inHand.first
    const { lane } = this.#host
    if (lane.blockedUntilMs > 0) {
      if (this.#principal.fleet || lane.isSharing) this.#blockedMs = nowMs
    } else if (first !== undefined && first.answer === pending && nowMs > this.#deadlineOf(first))
      this.#host.withhold(eventLogAway, 0, 'the event log does not answer')
    // QoS 0 that was put off hears "no" now, and what stands behind it can be read.
    else if (nowMs - this.#movedMs > qos0PatienceMs) this.#host.onRoom()
  }

  /** The connection is over. What is in hand goes on, so that a re-send on the next connection can join it. */
  leave(): void {
    this.#hasLeft = true
    for (const message of this.#inHand.takeAll()) {
      message.next = undefined
      if (message.answer !== pending) this.#onOrphanSettled(message)
      else if (message.original === undefined) this.#client.orphans.add(message)
      else this.#forgetCopy(message, message.original)
    }
  }

  #topicOf(packet: PublishPacket, bytes: Buffer): PublishTopic | number {
    const { topicAlias, topicStart, topicEnd } = packet
    if (topicAlias === 0) return this.#topics.find(bytes, topicStart, topicEnd)
    if (topicAlias > maxTopicAlias) return reasonCode.topicAliasInvalid
    if (topicStart === topicEnd) return this.#aliases.get(topicAlias) ?? reasonCode.protocolError
    const topic = this.#topics.find(bytes, topicStart, topicEnd)
    if (typeof topic !== 'number') this.#aliases.set(topicAlias, topic)
    return topic
  }

  #takeUnanswered(packet: PublishPacket, topic: PublishTopic, payload: Buffer, chunk: Buffer): boolean {
    if (topic.use === 'not_allowed') return this.#drop('not_allowed')
    const members = membersOf(topic.name, payload)
    const weight = weightOf(members)
    if (!this.#hasRoom(payload.length, weight))
      return performance.now() - this.#movedMs > qos0PatienceMs && this.#drop('queue_full')
    const message = this.#message(packet, topic, kept(payload, chunk), 0)
    message.weight = weight
    if (topic.use === 'general') {
      this.#unanswered += weight
      this.#forward(message, topic, packet, chunk)
    } else this.#push(message, members)
    return true
  }

  #drop(code: 'not_allowed' | 'queue_full'): true {
    this.#front.countRefused(code)
    this.#front.counters.qos0Dropped.inc({ reason: code })
    this.#front.errors.tell(this.#principal, { code }, this.#host.nowMs)
    return true
  }

  /**
   * A re-send shares the answer of its first copy: in hand on this connection or an older one of the same client, or answered here within a
   * minute, or never delivered. QoS 2 needs no DUP flag: its packet id is taken until PUBREL [MQTT-4.3.3-10].
   * @returns undefined when it is a message of its own, false when there is no room for its answer
   */
  #join(packet: PublishPacket, topic: PublishTopic, payload: Buffer, checksum: number): boolean | undefined {
    const { qos, packetId, dup } = packet
    const client = this.#client
    const original =
      this.#inHand.find(qos, packetId, checksum) ?? (dup ? client.findOrphan(qos, packetId, checksum) : undefined)
    const answer = original === undefined ? this.#rememberedAnswer(qos, packetId, checksum, dup) : original.answer
    if (answer === undefined) return undefined
    const { maxInHandMessages, maxInHandBytes } = this.#front.config
    if (this.#inHand.weight >= 2 * maxInHandMessages) return false
    // Its own bytes are for the case that the first copy is refused with its connection.
    const needsBytes = original !== undefined && original.owner !== this
    if (needsBytes && client.bytes + payload.length > 2 * maxInHandBytes) return false
    this.#front.counters.dupJoined.inc()
    const copy = this.#message(packet, topic, needsBytes ? Buffer.from(payload) : nothing, checksum)
    copy.isResend = true
    this.#inHand.add(copy)
    if (original !== undefined && answer === pending) {
      copy.original = original
      original.copies ??= []
      original.copies.push(copy)
    } else {
      copy.answer = answer
      copy.refusal = original?.refusal
      this.#markDirty()
    }
    return true
  }

  #rememberedAnswer(qos: number, packetId: number, checksum: number, dup: boolean): number | undefined {
    const { nowMs } = this.#host
    if (qos === 2 && this.#client.received.get(packetId) === checksum) return reasonCode.success
    if (!dup) return undefined
    return (
      (qos === 1 ? this.#recent.find(packetId, checksum, nowMs) : undefined) ??
      this.#client.unsent.find(qos, packetId, checksum, nowMs)
    )
  }

  /** Not its topic: MQTT 5 has a word for that, 3.1.1 only the end of the connection. */
  #refuse(packet: PublishPacket, topic: PublishTopic, checksum: number): true {
    const { nowMs } = this.#host
    this.#front.countRefused('not_allowed')
    this.#front.errors.tell(this.#principal, { code: 'not_allowed', pid: packet.packetId }, nowMs)
    const message = this.#message(packet, topic, nothing, checksum)
    this.#setAnswer(message, { kind: 'refused', code: 'not_allowed', message: 'not a topic of this credential' })
    this.#inHand.add(message)
    this.#markDirty()
    return true
  }

  #message(packet: PublishPacket, topic: PublishTopic, payload: Buffer, checksum: number): Message {
    const { nowMs, nowUs, lane } = this.#host
    if (this.isEmpty) this.#movedMs = performance.now()
    const message = new Message(this, this.#principal, lane, {
      qos: packet.qos,
      packetId: packet.packetId,
      checksum,
      client: this.#client.id,
      resend: packet.dup,
      topic: topic.name,
      contentType: packet.contentType,
      payload,
      acknowledgesParked: this.#version < 5 || packet.qos === 0,
      holdUntilMs: packet.qos === 0 ? 0 : this.#holdUntil(nowMs),
      ingestTimeUs: nowUs,
      arrivedAtMs: nowMs,
    })
    this.#client.bytes += message.bytes
    this.#stats.publishesReceived++
    if (this.#front.watchers.isAny && isWatched(topic, this.#front.watchers)) message.inside = topic.inside
    return message
  }

  /** A message to other clients. */
  #forward(message: Message, topic: PublishTopic, packet: PublishPacket, bytes: Buffer): void {
    const code = this.#general.send(message, topic, packet, bytes, (error) => this.#host.fail(error))
    if (code !== 0) this.#refuseAtOnce(message, code)
  }

  /** QoS 0 hears nothing of it. */
  #refuseAtOnce(message: Message, code: number): void {
    this.#client.bytes -= message.bytes
    message.bytes = 0
    message.answer = code
    if (message.qos === 0) this.#unanswered -= message.weight
    else this.#markDirty()
  }

  #holdUntil(nowMs: number): number {
    if (this.#principal.fleet) return Number.POSITIVE_INFINITY
    return this.#front.config.onLimit === 'refuse' && this.#version === 5 ? 0 : nowMs + this.#holdMs
  }

  #push(message: Message, members: readonly JsonMember[] | undefined): void {
    if (message.qos === 0) this.#unanswered += message.weight
    const pid = message.packetId === 0 ? undefined : message.packetId
    pushMessage(this.#front.pipeline, message, members, (device, code) => {
      this.#front.errors.tell(this.#principal, { code, pid, device }, performance.now())
      if (message.inside === undefined) return
      message.parkedDevices ??= new Set()
      message.parkedDevices.add(device)
    })
  }

  /** A client has one share, whatever the number of its connections; a message that is larger than the share passes alone. */
  #hasRoom(bytes: number, weight: number): boolean {
    const { maxInHandMessages, maxInHandBytes } = this.#front.config
    const messages = this.#inHand.weight + this.#unanswered + this.#client.orphans.size
    if (messages > 0 && messages + weight > maxInHandMessages) return false
    return this.#client.bytes === 0 || this.#client.bytes + bytes <= maxInHandBytes
  }

  #onUnansweredSettled(message: Message, verdict: Verdict): void {
    this.#unanswered -= message.weight
    if (verdict.kind === 'refused') this.#front.counters.qos0Dropped.inc({ reason: verdict.code })
    if (!this.#hasLeft) this.#markDirty() // there is room now
  }

  #onOrphanSettled(message: Message): void {
    const { orphans, unsent, connection } = this.#client
    orphans.delete(message)
    const { qos, packetId, checksum, answer } = message
    if (answer !== withheld) unsent.add(qos, packetId, checksum, answer, performance.now())
    connection?.onRoom()
  }

  /** Only the first copy is waited for: a client that comes and goes would leave ever more of the others behind. */
  #forgetCopy(copy: Message, original: Message): void {
    original.copies = original.copies?.filter((other) => other !== copy)
    this.#client.bytes -= copy.bytes
    copy.bytes = 0
  }

  #withhold(message: Message, refusal: Refused): void {
    const why = answerTo(refusal, this.#version, this.#front.config.onLimit)
    if (typeof why === 'number') return
    const nowMs = performance.now()
    if (why.reason === 'not_allowed') this.#client.pacing.notAllowed(message.checksum, nowMs)
    if (why.reason === 'rate_limited') this.#client.pacing.rateLimited(refusal.waitMs ?? 0, nowMs)
    this.#host.withhold(why, why.holds ? message.arrivedAtMs + this.#holdMs : 0, refusal.message)
  }

  #setAnswer(message: Message, verdict: Verdict): void {
    const answer = answerTo(verdict, this.#version, this.#front.config.onLimit)
    if (typeof answer === 'number') message.answer = answer
    else {
      message.answer = withheld
      message.refusal = verdict as Refused
    }
  }

  #tell({ packetId }: Message, verdict: Verdict & { kind: 'parked' | 'refused' }): void {
    const pid = packetId === 0 ? undefined : packetId
    const { limit, waitMs } = verdict.kind === 'refused' ? verdict : {}
    this.#front.errors.tell(this.#principal, { code: verdict.code, limit, waitMs, pid }, performance.now())
  }

  #isPastHold({ arrivedAtMs }: Message): boolean {
    return performance.now() > arrivedAtMs + this.#holdMs
  }

  /**
   * A limit that others share may hold for long, so there the event log's time begins when that ended; for a fleet credential, which sends much
   * at once, when something last moved.
   */
  #deadlineOf({ arrivedAtMs }: Message): number {
    const fromMs = Math.max(arrivedAtMs, this.#blockedMs, this.#principal.fleet ? this.#movedMs : 0)
    return fromMs + this.#holdMs + deadlineGraceMs
  }

  #markDirty(): void {
    if (this.#isDirty) return
    this.#isDirty = true
    this.#front.flushLater(this)
  }

  #fault(code: number): true {
    this.#host.fault(code)
    return true
  }
}
