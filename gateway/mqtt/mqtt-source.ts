import { createServer, type Socket } from 'node:net'
import type { Config } from '#platform/config-schema.ts'
import { type Handle, handleOf } from '#platform/handle.ts'
import { listen } from '#platform/listen.ts'
import { startBroker } from './broker.ts'
import { Connection } from './connection.ts'
import { Front, type MqttSourceOptions } from './front.ts'
import type { Peer } from './peer.ts'

export type { MqttSourceOptions } from './front.ts'

export interface MqttSource extends Handle {
  readonly port: number
}

const tickMs = 250
const pruneMs = 10_000

/**
 * MQTT 3.1.1 and 5 over TCP. `close()` takes no more connections, reads no more, and waits until what is in hand has its answer: the pipeline
 * must settle it, so it has to be closed at the same time.
 */
export async function startMqttSource(config: Config['mqtt'], options: MqttSourceOptions): Promise<MqttSource> {
  const broker = await startBroker(options.log, () => front.counters.deliveriesDropped.inc({ reason: 'session_full' }))
  const front: Front = new Front(config, broker, options)
  const connections = new Set<Connection>()
  options.metrics.gauge('fleetbridge_mqtt_connections', 'MQTT sockets that are open', () => connections.size)

  let drained: (() => void) | undefined
  const server = createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 }, accept)
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

  function accept(socket: Socket): void {
    const peer: Peer = { address: socket.remoteAddress ?? '', transport: 'tcp', certificate: undefined }
    if (!front.admits(peer)) {
      socket.destroy()
      return
    }
    const connection = new Connection(front, socket, peer)
    connections.add(connection)
    socket.once('close', () => {
      connections.delete(connection)
      front.door.leave(peer.address)
      if (connections.size === 0) drained?.()
    })
  }

  async function close(): Promise<void> {
    front.isClosing = true
    const stopped = new Promise<void>((resolve) => server.close(() => resolve()))
    for (const connection of connections) connection.shutDown()
    if (connections.size > 0) await new Promise<void>((resolve) => (drained = resolve))
    clearInterval(clock)
    front.wills.stop()
    await stopped
    front.close()
    await broker.close()
  }

  try {
    const port = await listen(server, { host: config.host, port: config.port, variable: 'BRIDGE_MQTT_PORT' })
    return { ...handleOf(close), port }
  } catch (error) {
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
