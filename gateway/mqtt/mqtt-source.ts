import { createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer, type TLSSocket } from 'node:tls'
import { ClientAddresses } from '#platform/client-addresses.ts'
import type { Config } from '#platform/config-schema.ts'
import { type Handle, handleOf } from '#platform/handle.ts'
import { Handshakes } from '#platform/handshakes.ts'
import { listen } from '#platform/listen.ts'
import { certificateShownOn, readsNoCertificate } from '../auth/shown-certificate.ts'
import { startBroker } from './broker.ts'
import { Connection, type Wire } from './connection.ts'
import { Front, type MqttSourceOptions } from './front.ts'
import type { Peer } from './peer.ts'

export type { MqttSourceOptions } from './front.ts'

export interface MqttSource extends Handle {
  /** Of the listener without TLS; 0 when there is none. */
  readonly port: number
  /** Of the listener with TLS; 0 when there is none. */
  readonly tlsPort: number
  /** Takes a connection that came by another door. */
  accept(wire: Wire, peer: Peer): void
  /**
   * Says something to those of a tenant who have subscribed to it: QoS 0, not retained.
   * @param topic as clients know it
   */
  publish(tenant: string, topic: string, payload: Buffer): void
}

const socketOptions = { noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 }
const tickMs = 250
const pruneMs = 10_000

/**
 * MQTT 3.1.1 and 5 over TCP, TLS and whatever else `accept` is given. `close()` takes no more connections, reads no more, and waits until what is in hand has its answer: the pipeline
 * must settle it, so it has to be closed at the same time.
 */
export async function startMqttSource(config: Config['mqtt'], options: MqttSourceOptions): Promise<MqttSource> {
  const broker = await startBroker(options.log, () => front.counters.deliveriesDropped.inc({ reason: 'session_full' }))
  const front: Front = new Front(config, broker, options)
  const connections = new Set<Connection>()
  options.metrics.gauge('fleetbridge_mqtt_connections', 'MQTT sockets that are open', () => connections.size)

  let drained: (() => void) | undefined
  const { tls, addresses = new ClientAddresses(), clientCertificateOf = readsNoCertificate } = options
  const servers: Server[] = []
  const endings: (() => void)[] = []
  let prunedMs = performance.now()
  const clock = setInterval(() => {
    const nowMs = performance.now()
    for (const connection of connections) tick(connection, nowMs)
    front.sys.tick(nowMs)
    if (nowMs - prunedMs > pruneMs) {
      prunedMs = nowMs
      front.clients.prune(nowMs)
    }
  }, tickMs)

  /** At the bare connection, so that nobody is charged for a handshake that is not admitted. */
  function admit(address: string, socket: Socket): boolean {
    if (!front.admits({ address, transport: 'tcp', certificate: undefined })) return false
    socket.once('close', () => front.door.leave(address))
    return true
  }

  function open(wire: Wire, peer: Peer): void {
    const connection = new Connection(front, wire, peer)
    connections.add(connection)
    wire.once('close', () => {
      connections.delete(connection)
      if (connections.size === 0) drained?.()
    })
  }

  function accept(wire: Wire, peer: Peer): void {
    if (!front.admits(peer)) {
      wire.on('error', () => {})
      wire.destroy()
      return
    }
    wire.once('close', () => front.door.leave(peer.address))
    open(wire, peer)
  }

  function openSecure(socket: TLSSocket): void {
    if (front.isClosing) socket.destroy()
    else
      open(socket, {
        address: addresses.of(socket),
        transport: 'tls',
        certificate: certificateShownOn(socket, clientCertificateOf),
      })
  }

  async function listenOn(server: Server, admits: typeof admit, port: number, variable: string): Promise<number> {
    servers.push(server)
    endings.push(addresses.guard(server, admits))
    return await listen(server, { host: config.host, port, variable })
  }

  async function listenPlain(): Promise<number> {
    const server = createServer(socketOptions, (socket) =>
      open(socket, { address: addresses.of(socket), transport: 'tcp', certificate: undefined }),
    )
    return await listenOn(server, admit, config.port, 'BRIDGE_MQTT_PORT')
  }

  async function listenSecure(): Promise<number> {
    if (tls === undefined) return 0
    const server = createTlsServer({ ...socketOptions, ...tls.serverOptions() }, openSecure)
    tls.follow(server)
    const handshakes = new Handshakes(server)
    endings.push(() => handshakes.endAll())
    const admitToHandshake: typeof admit = (address, socket) => {
      if (!admit(address, socket)) return false
      handshakes.begin(socket)
      return true
    }
    return await listenOn(server, admitToHandshake, config.tlsPort, 'BRIDGE_MQTT_TLS_PORT')
  }

  async function close(): Promise<void> {
    front.isClosing = true
    const stopped = Promise.all(servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve()))))
    for (const end of endings) end()
    for (const connection of connections) connection.shutDown()
    if (connections.size > 0) await new Promise<void>((resolve) => (drained = resolve))
    clearInterval(clock)
    front.wills.stop()
    await stopped
    front.close()
    await broker.close()
  }

  function publish(tenant: string, topic: string, payload: Buffer): void {
    if (!front.isClosing) broker.publish(`${tenant}/${topic}`, payload)
  }

  try {
    const port = config.plain ? await listenPlain() : 0
    const tlsPort = await listenSecure()
    return { ...handleOf(close), port, tlsPort, accept, publish }
  } catch (error) {
    for (const server of servers) server.close()
    clearInterval(clock)
    front.close()
    await broker.close()
    throw error
  }
}

function tick(connection: Connection, nowMs: number): void {
  try {
    connection.tick(nowMs)
  } catch (error) {
    connection.fail(error)
  }
}
