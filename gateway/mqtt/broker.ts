import { Duplex } from 'node:stream'
import { Aedes, type Client as AedesClient, type AedesOptions } from 'aedes'
import { type Handle, handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'
import { type BrokerMessage, packetOf } from './broker-message.ts'
import { BrokerPublisher } from './broker-publisher.ts'
import type { AcceptedConnect } from './connect.ts'
import { readControlPacket, writeControlPacket } from './control-packet.ts'
import { Framer, type FrameSink } from './frame.ts'
import { OfflineQueues } from './offline-queues.ts'
import { type ProtocolVersion, packetType } from './packet-types.ts'
import { type AedesInside, SessionStore } from './session-store.ts'

/** What the front hears from the broker about one connection. */
export interface LinkSink {
  /** The broker has taken the client in: from now on it gets what the client sends. */
  onAccepted(sessionPresent: boolean): void
  /** A packet for the client, with names as they are inside the broker. */
  onBrokerPacket(bytes: Buffer, start: number, body: number, end: number): void
  /** The broker has ended the connection, or never took it. */
  onBrokerClosed(): void
  /** Ends the connection for a fault of ours. */
  fail(error: unknown): void
}

/**
 * Aedes, and all that is particular about it. It sees only clients that the front has let in, under their inside names, and never a PUBLISH of
 * theirs: it keeps sessions, subscriptions and retained messages, and delivers what we publish.
 */
export interface Broker extends Handle {
  readonly sessions: SessionStore
  /** @param prepare called before Aedes sees the CONNECT, when nothing is being handed on: brings the session here from where it was */
  connect(insideId: string, connect: AcceptedConnect, sink: LinkSink, prepare?: () => Promise<void>): Link
  /** QoS 0, not retained. */
  publish(insideTopic: string, payload: Buffer): void
  /**
   * @param from inside id of the client that it comes from
   * @param done called when it was handed to all who subscribed here, connected or not
   * @param number by which all gateways know it; absent for one that stays in this one
   */
  send(message: BrokerMessage, from: string, done: (error?: Error) => void, number?: number): void
  /** Ends a session that has no connection. */
  forget(insideId: string): void
}

/** Sessions end when we say so: Aedes would keep a timer and the whole client for each. */
const neverExpires = 0xffff_ffff

/** @param onDropped called for each message that found no room in the session of a client that is away, or slow to acknowledge */
export async function startBroker(log: Log, onDropped: () => void = () => {}): Promise<Broker> {
  const options: AedesOptions & { queueLimit: number } = {
    queueLimit: 2000, // its 42 closes clients that rightly send on before CONNACK
    maxClientsIdLength: 65_535, // inside names are long, and the front has looked at what the client sent
    drainTimeout: 0, // the front bounds what a slow client holds up
    authorizeForward: (client, packet) => (publisher.isSkipped(client.id) && packet.qos > 0 ? null : packet),
  }
  const aedes = await Aedes.createBroker(options)
  const inside = aedes as unknown as AedesInside
  const publisher: BrokerPublisher = new BrokerPublisher(aedes)
  const offline = new OfflineQueues(inside.persistence, {
    onDropped,
    numberOfCurrent: () => publisher.currentNumber,
    onKnown: (id) => publisher.skip(id),
  })
  const sessions = new SessionStore(inside, offline, publisher)
  /** Whether anything was ever sent that sessions keep: without open mode nothing is. */
  let hasKept = false
  const links = new Map<string, Link>()
  const onError = (error: unknown) => log.error({ err: error }, 'the MQTT broker failed')
  ;(aedes as NodeJS.EventEmitter).on('error', onError)
  aedes.on('client', (client) => linkOf(client)?.onRegistered())
  aedes.on('clientReady', (client) => linkOf(client)?.onReady())
  aedes.on('clientDisconnect', (client) => linkOf(client)?.onUnregistered())

  function forget(insideId: string): void {
    inside.clearSessionExpiry(insideId)
    inside.persistence.cleanSubscriptions({ id: insideId }).catch(onError)
    offline.empty(insideId).catch(onError)
  }

  return {
    ...handleOf(() => new Promise((resolve) => aedes.close(resolve))),
    sessions,
    connect(insideId, connect, sink, prepare) {
      const before = links.get(insideId)
      const link = new Link(sink, connect.version)
      links.set(insideId, link)
      link.onGone(() => {
        if (links.get(insideId) === link) links.delete(insideId)
        if (connect.sessionSeconds === 0 && !connect.clean) forget(insideId)
      })
      const start = () => {
        const begin = () => link.start(aedes, connectPacket(insideId, connect))
        // What comes while Aedes takes a session up again, it would send once as new and once out of the session's queue.
        if (prepare === undefined && (connect.clean || !hasKept)) begin()
        else {
          publisher.pause(() => {
            if (prepare === undefined) begin()
            else
              prepare().then(begin, (error: unknown) => {
                link.destroy() // or it would wait for its turn, and all others with it
                sink.fail(error)
              })
          })
          link.onUp(() => publisher.resume())
        }
      }
      // Aedes forgets the new client of a name when the old one ends after it, so one waits for the other.
      if (before === undefined) start()
      else {
        before.close()
        before.onGone(start)
      }
      return link
    },
    publish(topic, payload) {
      publisher.publish({ cmd: 'publish', topic, payload, qos: 0, retain: false, dup: false }, undefined, () => {})
    },
    send(message, from, done, number) {
      hasKept ||= message.qos > 0
      publisher.publish(packetOf(message), from, done, number)
    },
    forget,
  }
}

function linkOf(client: AedesClient): Link | undefined {
  return client.conn instanceof Link ? client.conn : undefined
}

/** Keep alive 0: that clock is the front's, since here it would not stand still while the front holds the client up. */
function connectPacket(insideId: string, { version, clean, sessionSeconds }: AcceptedConnect): Buffer | undefined {
  // One that goes on with a session only to end it would be given nothing of what waited.
  const isClean = clean && sessionSeconds === 0
  return writeControlPacket(
    {
      cmd: 'connect',
      protocolId: version === 3 ? 'MQIsdp' : 'MQTT',
      protocolVersion: version,
      clientId: insideId,
      clean,
      keepalive: 0,
      ...(version === 5 && { properties: { sessionExpiryInterval: isClean ? 0 : neverExpires } }),
    },
    version,
  )
}

/** What Aedes takes for the socket of one client. */
export class Link extends Duplex implements FrameSink {
  readonly #sink: LinkSink
  readonly #version: ProtocolVersion
  readonly #framer: Framer
  #isRegistered = false
  #isReady = false
  #isClosing = false
  #isGone = false
  #onGone: (() => void)[] = []
  #onUp: (() => void)[] = []

  constructor(sink: LinkSink, version: ProtocolVersion) {
    // Aedes never waits for a slow client, since its queue is everybody's: the front drops or closes instead.
    super({ allowHalfOpen: false, writableHighWaterMark: 64 * 1024 * 1024 })
    this.#sink = sink
    this.#version = version
    this.#framer = new Framer(this, Number.POSITIVE_INFINITY)
    this.on('close', () => {
      if (!this.#isRegistered) this.#gone()
      if (!this.#isClosing) this.#sink.onBrokerClosed()
    })
    this.on('error', () => {}) // a client's error ends that client alone, which 'close' tells
  }

  start(aedes: Aedes, connect: Buffer | undefined): void {
    if (this.#isClosing || connect === undefined) {
      this.destroy()
      return
    }
    aedes.handle(this)
    this.push(connect)
  }

  /** Bytes of whole packets from the client, with inside names. */
  send(bytes: Buffer): void {
    if (!this.#isClosing && !this.destroyed) this.push(bytes)
  }

  /** The client has said goodbye: Aedes reads that and ends the link. */
  finish(disconnect: Buffer): void {
    this.send(disconnect)
    this.#isClosing = true
    this.push(null)
  }

  /** The client is gone without a word. */
  close(): void {
    if (this.#isClosing) return
    this.#isClosing = true
    // Before that it waits for its turn, or Aedes would go on with its CONNECT and keep a client that nobody closes.
    if (this.#isReady) this.destroy()
  }

  /** @param listener called once Aedes has forgotten the client, at once when it has */
  onGone(listener: () => void): void {
    if (this.#isGone) listener()
    else this.#onGone.push(listener)
  }

  /** @param listener called once Aedes is done with the CONNECT: the session is taken up, or there will be none */
  onUp(listener: () => void): void {
    if (this.#isReady || this.#isGone) listener()
    else this.#onUp.push(listener)
  }

  onRegistered(): void {
    this.#isRegistered = true
  }

  onReady(): void {
    this.#isReady = true
    this.#up()
    if (this.#isClosing) this.destroy()
  }

  onUnregistered(): void {
    this.#gone()
  }

  onFrame(bytes: Buffer, start: number, body: number, end: number): boolean {
    if (this.#isClosing) return true
    if ((bytes[start] as number) >> 4 === packetType.connack) this.#onConnack(bytes.subarray(start, end))
    else this.#sink.onBrokerPacket(bytes, start, body, end)
    return true
  }

  onFrameFault(): void {
    this.destroy()
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.#read(chunk)
    callback()
  }

  override _writev(chunks: { chunk: Buffer }[], callback: (error?: Error | null) => void): void {
    this.#read(Buffer.concat(chunks.map(({ chunk }) => chunk)))
    callback()
  }

  #read(bytes: Buffer): void {
    try {
      this.#framer.push(bytes)
    } catch (error) {
      this.#sink.fail(error)
    }
  }

  #up(): void {
    const listeners = this.#onUp
    this.#onUp = []
    for (const listener of listeners) listener()
  }

  #onConnack(bytes: Buffer): void {
    const packet = readControlPacket(bytes, this.#version)
    if (packet?.cmd !== 'connack' || (packet.reasonCode ?? packet.returnCode) !== 0) this.destroy()
    else this.#sink.onAccepted(packet.sessionPresent)
  }

  #gone(): void {
    if (this.#isGone) return
    this.#isGone = true
    this.#up()
    const listeners = this.#onGone
    this.#onGone = []
    for (const listener of listeners) listener()
  }
}
