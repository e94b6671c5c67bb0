import type { Server, Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { connectionKey } from './client-addresses.ts'

/** Connections of a TLS server that are not through their handshake: a server that closes need not wait for them. */
export class Handshakes {
  readonly #sockets = new Map<string, Socket>()

  constructor(server: Server) {
    server.on('secureConnection', (socket: TLSSocket) => this.#sockets.delete(connectionKey(socket)))
  }

  /** A bare connection begins its handshake. */
  begin(socket: Socket): void {
    const key = connectionKey(socket)
    this.#sockets.set(key, socket)
    socket.once('close', () => this.#sockets.delete(key))
  }

  endAll(): void {
    for (const socket of this.#sockets.values()) socket.destroy()
  }
}
