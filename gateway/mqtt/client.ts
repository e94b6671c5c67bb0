import type { Principal } from '../auth/principal.ts'
import { insideName } from './device-topics.ts'
import { UnsentAnswers } from './dup-memory.ts'
import type { GrantedFilter } from './granted-filter.ts'
import type { Message } from './message.ts'
import { Pacing } from './pacing.ts'

/** The live connection of a client. */
export interface ClientConnection {
  /** A packet that was put off may be taken now. */
  onRoom(): void
  /** Another connection has come with its client id. */
  takeOver(): void
}

/** What is known of one client id of one device, over its connections. */
export class Client {
  /** Its name inside the broker. */
  readonly id: string
  /** As its latest connection has shown it: rights may have changed since the one before. */
  principal: Principal
  connection: ClientConnection | undefined
  /** A newer connection that has to wait before it may take over. */
  waiting: ClientConnection | undefined
  readonly pacing = new Pacing()
  readonly unsent = new UnsentAnswers()
  /** Messages of closed connections that the event log has not answered for: a re-send joins them, and they use up the client's share. */
  readonly orphans = new Set<Message>()
  /** QoS 2: checksums by packet id of what was answered with PUBREC, until its PUBREL. */
  readonly received = new Map<number, number>()
  /** What it has subscribed to, by the filters inside the broker. */
  readonly filters = new Map<string, GrantedFilter>()
  /** Bytes of payloads in hand. */
  bytes = 0
  /** How long its session outlives the connection; 0: not at all. */
  sessionSeconds = 0
  idleSinceMs = 0
  hasDelayedWill = false
  /**
   * Of its latest connection: rises with each, on whatever gateway, so that of two the later one is known (microseconds since the epoch, or a little
   * more). 0 before the first.
   */
  epoch = 0
  /** The highest that is known of connections on other gateways. */
  epochElsewhere = 0
  /** With which epoch the broker of this gateway has had the whole of its session; 0: it has not. */
  keptEpoch = 0
  /** Connections that do not know their epoch yet. */
  joining = 0

  constructor(id: string, principal: Principal) {
    this.id = id
    this.principal = principal
  }

  get isAway(): boolean {
    return this.connection === undefined && this.waiting === undefined
  }

  /** Whether there is a session that a CONNECT may go on with. */
  hasSession(nowMs: number): boolean {
    if (this.sessionSeconds === 0) return false
    return this.connection !== undefined || nowMs - this.idleSinceMs < this.sessionSeconds * 1000
  }

  findOrphan(qos: number, packetId: number, checksum: number): Message | undefined {
    for (const message of this.orphans) if (message.isSame(qos, packetId, checksum)) return message
    return undefined
  }

  /**
   * The session begins anew [MQTT-3.1.2-4]. What a DUP can still find stays: it names its message by packet id and checksum, and clients
   * re-send what is unacknowledged with clean sessions, too.
   */
  forgetSession(): void {
    this.received.clear()
    this.filters.clear()
  }
}

/** A client that nobody has seen for this long is forgotten, but for its subscriptions. */
const forgetAfterMs = 600_000
/** Unconnected clients of one device; past it the one that is away longest is forgotten. */
const maxIdlePerDevice = 16
/** Connected clients of one device: each may have megabytes in hand. A fleet credential may be that of a whole site, so it has no such bound. */
const maxLivePerDevice = 16

/** All clients of the process. A device may call itself by ever new client ids, so what is kept of each is bounded per device. */
export class Clients {
  readonly #devices = new Map<string, Map<string, Client>>()
  readonly #onForgotten: (client: Client) => void

  /** @param onForgotten hears of clients whose session ends with them */
  constructor(onForgotten: (client: Client) => void) {
    this.#onForgotten = onForgotten
  }

  get(principal: Principal, clientId: string): Client {
    const device = insideName(principal)
    let clients = this.#devices.get(device)
    if (clients === undefined) {
      clients = new Map()
      this.#devices.set(device, clients)
    }
    let client = clients.get(clientId)
    if (client === undefined) {
      client = new Client(`${device}/${clientId}`, principal)
      clients.set(clientId, client)
    }
    return client
  }

  /** @param id inside the broker */
  find(id: string): Client | undefined {
    // Neither a tenant nor the device's escaped name holds a slash, and a client id may.
    const deviceEnd = id.indexOf('/', id.indexOf('/') + 1)
    return this.#devices.get(id.slice(0, deviceEnd))?.get(id.slice(deviceEnd + 1))
  }

  *[Symbol.iterator](): Iterator<Client> {
    for (const clients of this.#devices.values()) yield* clients.values()
  }

  /** Whether one more client of the same device may have a connection. */
  hasRoomFor(client: Client): boolean {
    if (client.principal.fleet || !client.isAway) return true
    let live = 0
    for (const { isAway } of this.#devices.get(insideName(client.principal))?.values() ?? []) if (!isAway) live++
    return live < maxLivePerDevice
  }

  /** The client has no connection any more. */
  idle(client: Client, nowMs: number): void {
    client.idleSinceMs = nowMs
    if (client.sessionSeconds > 0) this.keepOneSession(client)
    const clients = this.#devices.get(insideName(client.principal))
    if (clients === undefined) return
    this.#prune(clients, nowMs)
    const idle = [...clients].filter(([, { isAway }]) => isAway)
    if (idle.length <= maxIdlePerDevice) return
    idle.sort(([, one], [, other]) => one.idleSinceMs - other.idleSinceMs)
    for (const [clientId, oldest] of idle.slice(0, idle.length - maxIdlePerDevice))
      this.#forget(clients, clientId, oldest)
  }

  /** A device has one session: those that its other clients left behind end. What a DUP can still find of them stays. */
  keepOneSession(client: Client): void {
    for (const other of this.#devices.get(insideName(client.principal))?.values() ?? []) {
      if (other === client || !other.isAway || other.sessionSeconds === 0) continue
      other.forgetSession()
      other.sessionSeconds = 0
      this.#onForgotten(other)
    }
  }

  /** Forgets those of whom nothing is worth keeping. */
  prune(nowMs: number): void {
    for (const [device, clients] of this.#devices) {
      this.#prune(clients, nowMs)
      if (clients.size === 0) this.#devices.delete(device)
    }
  }

  #prune(clients: Map<string, Client>, nowMs: number): void {
    for (const [clientId, client] of clients) {
      client.unsent.prune(nowMs)
      if (client.isAway && !isWorthKeeping(client, nowMs)) this.#forget(clients, clientId, client)
    }
  }

  #forget(clients: Map<string, Client>, clientId: string, client: Client): void {
    clients.delete(clientId)
    if (client.sessionSeconds > 0) this.#onForgotten(client)
  }
}

function isWorthKeeping(client: Client, nowMs: number): boolean {
  if (
    client.joining > 0 ||
    client.hasDelayedWill ||
    client.orphans.size > 0 ||
    !client.unsent.isEmpty ||
    client.pacing.isWorthKeeping(nowMs)
  )
    return true
  if (client.filters.size > 0 && client.hasSession(nowMs)) return true
  return client.received.size > 0 && nowMs - client.idleSinceMs < forgetAfterMs
}
