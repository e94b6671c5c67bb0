import type { Principal } from '../auth/principal.ts'
import { Lane } from '../envelope.ts'
import type { LiveSession } from '../presence/presence.ts'
import { Admission, type AdmissionHost } from './admission.ts'
import { type CloseReason, closeReasonOf, stopping, type Withheld } from './answers.ts'
import type { Link, LinkSink } from './broker.ts'
import type { Client } from './client.ts'
import type { Joined } from './cluster/shared-sessions.ts'
import {
  type AcceptedConnect,
  acceptingConnack,
  maxSessionSeconds,
  type RefusedConnect,
  readConnect,
  refusedBy,
  refusingConnack,
} from './connect.ts'
import { readControlPacket } from './control-packet.ts'
import { Deliveries, type DeliveryHost } from './deliveries.ts'
import { disconnectPacket } from './disconnect-packet.ts'
import { type FrameFault, Framer, type FrameSink } from './frame.ts'
import type { Front, Guest } from './front.ts'
import { faultOfControlPacket } from './guard/control-guard.ts'
import type { IntakeHost } from './intake-host.ts'
import { packetType, reasonCode } from './packet-types.ts'
import type { Peer } from './peer.ts'
import { maxTopicAlias, PublishIntake } from './publish-intake.ts'
import { type Passed, Subscriptions } from './subscriptions.ts'
import type { TenantStats } from './sys-topics.ts'
import type { Will } from './will.ts'

const maxConnectBytes = 16 * 1024
/** Bytes that wait for a client that doesn't read: past it we read nothing from it. */
const maxUnreadBytes = 64 * 1024
const slowReaderMs = 60_000
/** After our last word the client has this long to hang up. */
const lingerMs = 1000

/** Why nothing is read at the moment; several may hold at once. */
const paused = { noRoom: 1, unread: 2, connecting: 4, ending: 8 } as const

/** new: no CONNECT yet; admitting: it may have to wait, or may not come in; connecting: waits for the broker. */
type State = 'new' | 'admitting' | 'connecting' | 'open' | 'closed'

/** What a connection needs of its transport: a net.Socket, a TLSSocket, or a Duplex over something else. */
export interface Wire {
  readonly writable: boolean
  readonly writableLength: number
  write(bytes: Buffer): unknown
  end(): unknown
  destroy(): unknown
  pause(): unknown
  resume(): unknown
  on(event: 'data', listener: (chunk: Buffer) => void): unknown
  on(event: 'drain' | 'close', listener: () => void): unknown
  on(event: 'error', listener: (error: Error) => void): unknown
  once(event: 'close', listener: () => void): unknown
}

interface Ending {
  readonly why: Withheld
  readonly atMs: number
  readonly text: string
}

/** One socket from its first byte to its end: reads packets, takes what is its own, and hands the rest to the broker. */
export class Connection implements FrameSink, IntakeHost, LinkSink, AdmissionHost, DeliveryHost, Guest {
  readonly lane = new Lane()
  nowMs = performance.now()
  nowUs = 0
  readonly #front: Front
  readonly #socket: Wire
  readonly #peer: Peer
  readonly #framer: Framer
  readonly #openedMs = performance.now()
  #state: State = 'new'
  #hasRead = false
  #enteredMs = 0
  /** Whether it goes on with the session of an earlier connection. */
  #resumes = false
  #paused = 0
  #unreadSinceMs = 0
  #pings = 0
  #ending: Ending | undefined
  #admission: Admission | undefined
  #connect: AcceptedConnect | undefined
  #client: Client | undefined
  #intake: PublishIntake | undefined
  #subscriptions: Subscriptions | undefined
  #deliveries: Deliveries | undefined
  #stats: TenantStats | undefined
  #link: Link | undefined
  #will: Will | undefined
  /** Of this connection; its client's goes on with the next one. */
  #epoch = 0
  #live: LiveSession | undefined

  constructor(front: Front, socket: Wire, peer: Peer) {
    this.#front = front
    this.#peer = peer
    this.#socket = socket
    this.#framer = new Framer(this, Math.min(maxConnectBytes, front.config.maxPacketBytes))
    socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    socket.on('drain', () => this.#onDrain())
    socket.on('error', () => {}) // 'close' follows
    socket.on('close', () => this.#leave('lost'))
  }

  /** True when nothing is in hand. */
  get isIdle(): boolean {
    return this.#intake?.isEmpty ?? true
  }

  /** The clock of this connection: CONNECT in time, keep alive, hold times, a client that doesn't read. */
  tick(nowMs: number): void {
    const { connectTimeoutMs } = this.#front.config
    if (this.#state === 'new' || (this.#state === 'admitting' && this.#admission?.isJudging === true)) {
      if (nowMs - this.#openedMs > connectTimeoutMs) {
        this.#front.countConnect('timeout')
        this.#end('connect_timeout', undefined)
      }
    } else if (this.#state === 'connecting') {
      if (nowMs - this.#enteredMs > connectTimeoutMs) this.#end('connect_timeout', undefined)
    } else if (this.#state === 'open') {
      if (this.#ending !== undefined) {
        if (nowMs >= this.#ending.atMs) this.#endAsHeld(this.#ending)
      } else if (Date.now() >= (this.#connect?.principal.expiresAtMs ?? 0)) this.revoke()
      else if ((this.#paused & paused.unread) !== 0 && nowMs - this.#unreadSinceMs > slowReaderMs)
        this.#end('slow_reader', undefined)
      else if (this.#paused === 0 && nowMs - this.nowMs > this.#keepAliveMs())
        this.#end('keep_alive', reasonCode.keepAliveTimeout)
      else this.#intake?.tick(nowMs)
    }
  }

  /** We are stopping: reads no more, and ends once everything in hand has its answer. */
  shutDown(): void {
    if (this.#ending !== undefined) this.#endAsHeld(this.#ending)
    else if (this.#state === 'open' && !this.isIdle) this.#pause(paused.ending)
    else this.#end(stopping.reason, stopping.code)
  }

  takeOver(): void {
    this.#end('taken_over', reasonCode.sessionTakenOver)
  }

  get principal(): Principal | undefined {
    return this.#connect?.principal
  }

  /** Its credential was revoked or has expired, or its device was disabled. What it has in hand goes on as at any end; its will does not. */
  revoke(): void {
    this.#will = undefined
    this.#end('revoked', reasonCode.notAuthorized, 'the credential is revoked, expired or disabled')
  }

  onFrame(bytes: Buffer, start: number, body: number, end: number): boolean {
    if (this.#state === 'closed') return true
    if (this.#paused !== 0) return false
    if (this.#connect === undefined) return this.#onFirstFrame(bytes.subarray(start, end), body - start)
    if (this.#stats !== undefined) this.#stats.packetsReceived++
    const type = (bytes[start] as number) >> 4
    if (type === packetType.publish) {
      if (this.#intake?.take(bytes, start, body, end) !== false) return true
      this.#pause(paused.noRoom)
      return false
    }
    const { version } = this.#connect
    const fault =
      faultOfControlPacket(bytes, start, body, end, version, this.#front.config.maxFilters) ||
      this.#onOther(type, bytes, start, body, end)
    if (fault !== 0) this.fault(fault)
    return true
  }

  onFrameFault(fault: FrameFault): void {
    if (fault === 'too_large' && this.#state === 'open') this.#front.countRefused('too_large')
    if (this.#state === 'new') this.#front.countConnect('protocol_error')
    this.fault(fault === 'too_large' ? reasonCode.packetTooLarge : reasonCode.malformed)
  }

  fault(code: number): void {
    this.#end(closeReasonOf(code), code)
  }

  get unreadBytes(): number {
    return this.#socket.writableLength
  }

  toBroker(bytes: Buffer): void {
    this.#link?.send(bytes)
  }

  write(bytes: Buffer): void {
    if (this.#socket.writable) this.#socket.write(bytes)
    if (this.#stats !== undefined) this.#stats.bytesSent += bytes.length
    if (this.#socket.writableLength > maxUnreadBytes && (this.#paused & paused.unread) === 0) {
      this.#unreadSinceMs = performance.now()
      this.#pause(paused.unread)
    }
  }

  withhold(why: Withheld, atMs: number, text: string): void {
    if (this.#ending !== undefined || this.#state === 'closed') return
    this.#ending = { why, atMs, text }
    if (atMs <= performance.now() || this.#front.isClosing) this.#endAsHeld(this.#ending)
    else this.#pause(paused.ending)
  }

  onRoom(): void {
    if (this.#front.isClosing && this.#state === 'open' && this.isIdle) this.#end(stopping.reason, stopping.code)
    else this.#resume(paused.noRoom)
  }

  onAccepted(isKnownToBroker: boolean): void {
    const [connect, client] = [this.#connect, this.#client]
    if (this.#state !== 'connecting' || connect === undefined || client === undefined) return
    if (!this.#front.authenticator.isLive(connect.principal)) {
      this.refuse(refusedBy('disabled', connect.version))
      return
    }
    // The broker knows of subscriptions only, and we of QoS 2 as well: one without the other is no session.
    const sessionPresent = this.#resumes && (isKnownToBroker || client.filters.size === 0)
    if (!sessionPresent) client.forgetSession()
    const { maxInHandMessages, maxPacketBytes } = this.#front.config
    this.#subscriptions = new Subscriptions(this.#front, client, connect.principal, connect.version)
    this.#deliveries = new Deliveries(this.#front, this, client, connect)
    this.#stats = this.#front.sys.statsOf(connect.principal.tenant)
    this.#stats.connected()
    this.#intake = new PublishIntake(this.#front, this, client, { version: connect.version, holdMs: this.#holdMs() })
    this.#will = connect.will
    this.#framer.maxBytes = maxPacketBytes
    this.#state = 'open'
    this.#front.countConnect('accepted')
    this.#live = this.#front.presence?.connected(connect.principal, connect.clientId, this.#epoch)
    this.write(
      acceptingConnack(connect, sessionPresent, {
        receiveMaximum: maxInHandMessages,
        maximumPacketSize: maxPacketBytes,
        topicAliasMaximum: maxTopicAlias,
      }),
    )
    this.#resume(paused.connecting)
  }

  onBrokerPacket(bytes: Buffer, start: number, body: number, end: number): void {
    if (this.#state !== 'open') return
    const type = (bytes[start] as number) >> 4
    if (type === packetType.publish) this.#deliveries?.onPublish(bytes, start, body, end)
    else if (type === packetType.suback) this.#onSuback(bytes.subarray(start, end), body - start)
    else if (type === packetType.pubrel)
      this.#deliveries?.onRelease(Buffer.from(bytes.subarray(start, end)), body - start)
    else {
      if (type === packetType.unsuback) this.#onFilters()
      this.write(Buffer.from(bytes.subarray(start, end)))
    }
  }

  /** The session's filters have changed. */
  #onFilters(): void {
    if (this.#client !== undefined) this.#front.cluster?.sessions.save(this.#client)
  }

  #onSuback(packet: Buffer, body: number): void {
    const subscribed = this.#subscriptions?.onSuback(packet, body)
    const tenant = this.#connect?.principal.tenant
    if (subscribed === undefined || tenant === undefined) return
    this.#onFilters()
    this.write(subscribed.suback)
    for (const [topic, value, filters] of this.#front.sys.current(tenant, subscribed.filters))
      this.#deliveries?.deliverRetained(topic, value, filters)
  }

  onBrokerClosed(): void {
    this.#end('protocol_error', undefined)
  }

  #onData(chunk: Buffer): void {
    if (this.#state === 'closed' || chunk.length === 0) return
    const isFirst = !this.#hasRead
    this.#hasRead = true
    if (isFirst && chunk[0] !== packetType.connect << 4) {
      this.#front.countConnect('protocol_error')
      this.#end('protocol_error', undefined)
      return
    }
    this.#setNow()
    if (this.#stats !== undefined) this.#stats.bytesReceived += chunk.length
    this.#guarded(() => this.#framer.push(chunk))
  }

  /** Whatever goes wrong ends this connection alone. */
  fail(error: unknown): void {
    this.#front.log.error({ err: error }, 'an MQTT connection failed and was closed')
    this.#socket.destroy()
    this.#leave('internal')
  }

  #guarded(read: () => void): void {
    try {
      read()
    } catch (error) {
      this.fail(error)
    }
    if (this.#pings > 0 && this.#state === 'open') {
      const pongs = Buffer.alloc(this.#pings * 2)
      for (let at = 0; at < pongs.length; at += 2) pongs[at] = packetType.pingresp << 4
      this.write(pongs)
    }
    this.#pings = 0
  }

  #onFirstFrame(packet: Buffer, body: number): boolean {
    if (packet[0] !== packetType.connect << 4) {
      this.#front.countConnect('protocol_error')
      this.#end('protocol_error', undefined)
      return true
    }
    const read = readConnect(packet, body)
    if ('result' in read) {
      this.refuse(read)
      return true
    }
    this.#pause(paused.connecting)
    this.#state = 'admitting'
    const endsMs = this.#openedMs + this.#front.config.connectTimeoutMs
    this.#admission = new Admission(this.#front, this, this.#peer, read, endsMs)
    this.#admission.start()
    return true
  }

  refuse({ result, connack }: RefusedConnect): void {
    if (this.#state === 'closed') return
    this.#front.countConnect(result)
    if (connack !== undefined) this.write(refusingConnack(connack.version, connack.code))
    this.#end('connect_refused', undefined)
  }

  enter(connect: AcceptedConnect): void {
    if (this.#state === 'closed') return
    this.#connect = connect
    this.#state = 'connecting'
    this.#front.guests.add(this)
    const client = this.#front.clients.get(connect.principal, connect.clientId)
    const older = client.connection
    const nowMs = performance.now()
    this.#enteredMs = nowMs
    const isKnown = client.hasSession(nowMs) && haveSameRights(client.principal, connect.principal)
    if (client.sessionSeconds > 0 && !isKnown) {
      this.#front.broker.forget(client.id)
      client.keptEpoch = 0
    }
    client.principal = connect.principal
    client.connection = this
    this.#admission?.stop()
    if (older !== undefined) client.pacing.takenOver(nowMs)
    older?.takeOver()
    this.#client = client
    const { cluster } = this.#front
    if (cluster === undefined) {
      client.epoch = Math.max(Date.now() * 1000, client.epoch + 1)
      this.#begin(connect, client, { resumes: !connect.clean && isKnown, prepare: undefined })
    } else
      cluster.sessions.join(client, connect, isKnown).then(
        (joined) => this.#onJoined(connect, client, joined),
        (error: unknown) => this.fail(error),
      )
  }

  #onJoined(connect: AcceptedConnect, client: Client, joined: Joined | undefined): void {
    if (this.#state === 'closed') {
      // With what it came for: the session that waits for it elsewhere was not brought here.
      if (client.connection === undefined) this.#front.cluster?.sessions.leave(client, connect.sessionSeconds)
    } else if (joined === undefined) this.takeOver()
    else this.#begin(connect, client, joined)
  }

  #begin(connect: AcceptedConnect, client: Client, { resumes, prepare }: Joined): void {
    this.#resumes = resumes
    this.#epoch = client.epoch
    if (resumes) this.#front.wills.cancel(client)
    else this.#front.wills.sayNow(client)
    client.sessionSeconds = connect.sessionSeconds
    if (client.sessionSeconds > 0) this.#front.clients.keepOneSession(client)
    this.#link = this.#front.broker.connect(client.id, connect, this, prepare)
  }

  /** A packet that is no PUBLISH. @returns 0, or the reason code with which the connection ends */
  #onOther(type: number, bytes: Buffer, start: number, body: number, end: number): number {
    switch (type) {
      case packetType.pingreq:
        this.#pings++
        return 0
      case packetType.pubrel:
        return this.#intake?.release(bytes, body, end) ?? 0
      case packetType.subscribe:
        return this.#passOn(this.#subscriptions?.subscribe(bytes.subarray(start, end)))
      case packetType.unsubscribe:
        return this.#passOn(this.#subscriptions?.unsubscribe(bytes.subarray(start, end)))
      case packetType.puback:
      case packetType.pubrec:
      case packetType.pubcomp:
        this.#deliveries?.onAcknowledgement(Buffer.from(bytes.subarray(start, end)), body - start)
        return 0
      case packetType.disconnect:
        return this.#onDisconnect(Buffer.from(bytes.subarray(start, end)))
      default:
        return reasonCode.protocolError
    }
  }

  #passOn(packets: Passed | number = reasonCode.unspecified): number {
    if (typeof packets === 'number') return packets
    if (packets.client !== undefined) this.write(packets.client)
    if (packets.broker !== undefined) this.#link?.send(packets.broker)
    return (this.#link?.readableLength ?? 0) > maxUnreadBytes ? reasonCode.messageRateTooHigh : 0
  }

  #onDisconnect(bytes: Buffer): number {
    const version = this.#connect?.version ?? 4
    const packet = readControlPacket(bytes, version)
    if (packet?.cmd !== 'disconnect') return reasonCode.malformed
    const seconds = packet.properties?.sessionExpiryInterval
    if (seconds !== undefined && this.#client !== undefined) {
      if (seconds > 0 && this.#connect?.sessionSeconds === 0) return reasonCode.protocolError // [MQTT-3.14.2-2]
      this.#client.sessionSeconds = Math.min(seconds, maxSessionSeconds)
      if (seconds === 0) this.#front.broker.forget(this.#client.id)
    }
    if (version < 5 || packet.reasonCode !== reasonCode.disconnectWithWill) this.#will = undefined
    this.#link?.finish(Buffer.from([packetType.disconnect << 4, 0]))
    this.#end('client_disconnected', undefined)
    return 0
  }

  #onDrain(): void {
    this.#resume(paused.unread)
    if (this.#state === 'open') this.#deliveries?.onRoom()
  }

  #endAsHeld({ why, text }: Ending): void {
    this.#end(why.reason, why.code, text)
  }

  /** @param code DISCONNECT for an MQTT 5 client that was let in */
  #end(reason: CloseReason, code: number | undefined, text?: string): void {
    if (this.#state === 'closed') return
    if (this.#state === 'open') {
      this.#intake?.writeAnswers()
      const disconnect = code === undefined ? undefined : disconnectPacket(this.#connect, code, text)
      if (disconnect !== undefined) this.write(disconnect)
    }
    this.#leave(reason)
    // Read on and throw away: unread bytes would make the kernel reset the connection, and the client would lose our last words.
    this.#socket.resume()
    this.#socket.end()
    const linger = setTimeout(() => this.#socket.destroy(), lingerMs)
    this.#socket.once('close', () => clearTimeout(linger))
  }

  #leave(reason: CloseReason): void {
    if (this.#state === 'closed') return
    const wasOpen = this.#state === 'open'
    this.#state = 'closed'
    this.#front.countClosed(reason)
    if (this.#live !== undefined)
      this.#front.presence?.ended(this.#live, isLoss(reason) ? 'lost' : 'disconnected', reason)
    this.#admission?.stop()
    this.#front.guests.delete(this)
    this.#framer.stop()
    this.#link?.close()
    const client = this.#client
    if (client === undefined) return
    if (client.connection === this) client.connection = undefined
    this.#subscriptions?.close()
    if (this.#stats !== undefined) this.#stats.clients--
    this.#intake?.leave()
    // Held messages are refused at their next turn; those on their way go on, and the lane of a goodbye must not stop them.
    if (this.lane.blockedUntilMs > 0) this.lane.closed = true
    const nowMs = performance.now()
    if (wasOpen && this.#will !== undefined && !this.#front.isClosing) this.#leaveWill(this.#will, client)
    if (client.connection !== undefined) return
    this.#front.cluster?.sessions.leave(client)
    this.#front.clients.idle(client, nowMs)
  }

  #leaveWill(will: Will, client: Client): void {
    const delayMs = Math.min(will.delaySeconds, client.sessionSeconds) * 1000
    const lane = delayMs > 0 || this.lane.closed ? new Lane() : this.lane
    const publish = () => {
      // Its credential may have been revoked since, or that may be why the connection is over.
      if (this.#connect !== undefined && this.#front.authenticator.isLive(this.#connect.principal))
        this.#intake?.publishWill(will, lane, performance.now(), Date.now() * 1000)
    }
    this.#front.wills.delay(client, delayMs, publish)
  }

  #pause(why: number): void {
    if (this.#paused === 0) this.#socket.pause()
    this.#paused |= why
  }

  #resume(why: number): void {
    if ((this.#paused & why) === 0 || this.#state === 'closed') return
    this.#paused &= ~why
    if (this.#paused !== 0) return
    this.#setNow() // the keep alive stood still meanwhile, and the hold of what waited begins now
    this.#guarded(() => this.#framer.resume())
    if (this.#paused === 0) this.#socket.resume()
  }

  #setNow(): void {
    this.nowMs = performance.now()
    this.nowUs = Date.now() * 1000
  }

  #holdMs(): number {
    const { holdMs } = this.#front.config
    const keepAliveSeconds = this.#connect?.keepAliveSeconds ?? 0
    return keepAliveSeconds === 0 ? holdMs : Math.min(holdMs, keepAliveSeconds * 500)
  }

  /** One and a half times the keep alive [MQTT-3.1.2-22]. */
  #keepAliveMs(): number {
    const keepAliveSeconds = this.#connect?.keepAliveSeconds ?? 0
    return keepAliveSeconds === 0 ? Number.POSITIVE_INFINITY : keepAliveSeconds * 1500
  }
}

/** Whether the client is gone without its word or ours. */
function isLoss(reason: CloseReason): boolean {
  return reason === 'lost' || reason === 'keep_alive' || reason === 'slow_reader'
}

/** A session belongs to what its credential might do then: one with other rights begins anew. */
function haveSameRights(one: Principal, other: Principal): boolean {
  return one.operator === other.operator && one.fleet === other.fleet
}
