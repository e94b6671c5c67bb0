import { type IncomingMessage, STATUS_CODES } from 'node:http'
import type { Duplex } from 'node:stream'
import { type ServerOptions, WebSocketServer } from 'ws'
import type { Peer } from './peer.ts'
import { WebSocketWire } from './web-socket-wire.ts'

/** Where MQTT is spoken over WebSocket. */
export const webSocketPath = '/mqtt'

/** Names of the subprotocol: of MQTT [MQTT-6.0.0-4], and of clients that still say 3.1. */
const subprotocols = ['mqtt', 'mqttv3.1'] as const

export interface WebSocketDoor {
  /** Whether a request asks for what is behind this door. */
  isFor(request: IncomingMessage): boolean
  /** Takes over a connection whose head asks for MQTT over WebSocket. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer, peer: Peer): void
}

export interface WebSocketDoorOptions {
  readonly maxPacketBytes: number
  readonly accept: (wire: WebSocketWire, peer: Peer) => void
}

/** MQTT over WebSocket (MQTT 5.0 §6) on the connections of an HTTP server. Nothing is compressed: it costs memory for each connection. */
export function createWebSocketDoor({ maxPacketBytes, accept }: WebSocketDoorOptions): WebSocketDoor {
  const options: ServerOptions & { closeTimeout: number } = {
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    autoPong: false,
    closeTimeout: lingerMs,
    // A frame may hold several packets, but no client gains by more than this.
    maxPayload: Math.max(64 * 1024, 2 * maxPacketBytes),
    handleProtocols: (offered) => subprotocols.find((name) => offered.has(name)) ?? false,
  }
  const server = new WebSocketServer(options)
  server.on('wsClientError', (error, socket) => refuse(socket, 400, `${error.message}\n`))
  return {
    isFor({ url = '', headers: { upgrade = '' } }) {
      return upgrade.toLowerCase() === 'websocket' && url.split('?', 1)[0] === webSocketPath
    },
    upgrade(request, socket, head, peer) {
      socket.on('error', () => {}) // 'close' follows
      const offered = request.headers['sec-websocket-protocol']?.split(',').map((name) => name.trim()) ?? []
      if (!subprotocols.some((name) => offered.includes(name)))
        refuse(socket, 400, 'MQTT over WebSocket needs "Sec-WebSocket-Protocol: mqtt" [MQTT-6.0.0-3]\n')
      else
        server.handleUpgrade(request, socket, head, (webSocket) => accept(new WebSocketWire(webSocket, socket), peer))
    },
  }
}

function refuse(socket: Duplex, status: number, text: string): void {
  const head = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Type: text/plain\r\n`
  socket.end(`${head}Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`)
  setTimeout(() => socket.destroy(), lingerMs).unref()
}

/** For the client to read why. */
const lingerMs = 1000
