import { Duplex } from 'node:stream'
import type { RawData, WebSocket } from 'ws'
import { packetType } from './packet-types.ts'

/** Bytes that may lie between the socket and us before a client was let in: a CONNECT and what follows it at once. */
const maxStrangerBytes = 64 * 1024
/** Pongs that a client does not read end its connection, or it could fill our memory with them. */
const maxUnreadPongBytes = 64 * 1024
const unsupportedData = 1003
const normalClosure = 1000

/**
 * MQTT over a WebSocket as a stream of bytes: packets may span frames, and a frame may hold several [MQTT-6.0.0-3]. What is written at once
 * leaves as one frame. Text frames end the connection [MQTT-6.0.0-1].
 */
export class WebSocketWire extends Duplex {
  readonly #webSocket: WebSocket
  /** Bytes that have come in, less those that were handed on: what `ws` gathers of a frame. */
  #gathered = 0
  #isLetIn = false

  /**
   * @param webSocket answers no pings by itself (`autoPong: false`)
   * @param socket below it; only counted
   */
  constructor(webSocket: WebSocket, socket: Duplex) {
    super({ allowHalfOpen: false })
    this.#webSocket = webSocket
    // Before `ws` has read the chunk: a frame that ends in it is handed on, and counts no more.
    socket.prependListener('data', (chunk: Buffer) => this.#onBytes(chunk.length))
    webSocket.on('message', (data, isBinary) => this.#onMessage(data, isBinary))
    webSocket.on('ping', (data) => this.#onPing(data))
    webSocket.on('error', () => {}) // it closes by itself, with the code that fits; 'close' follows
    webSocket.on('close', () => {
      this.push(null)
      this.destroy()
    })
  }

  override _read(): void {
    if (this.#webSocket.isPaused) this.#webSocket.resume()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    // Our first packet is the CONNACK; its code is 0 for who was let in.
    if (!this.#isLetIn) this.#isLetIn = (chunk[0] as number) >> 4 === packetType.connack && chunk[3] === 0
    this.#webSocket.send(chunk, { binary: true }, done)
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    const frame = Buffer.concat(chunks.map(({ chunk }) => chunk))
    this._write(frame, 'binary', done)
  }

  override _final(done: () => void): void {
    this.#webSocket.close(normalClosure)
    done()
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#webSocket.terminate()
    done(error)
  }

  #onBytes(length: number): void {
    this.#gathered += length
    if (!this.#isLetIn && this.#gathered > maxStrangerBytes) this.destroy()
  }

  #onMessage(data: RawData, isBinary: boolean): void {
    if (!isBinary) {
      this.#refuseText()
      return
    }
    const chunk = data as Buffer // the `nodebuffer` of ws
    this.#gathered = 0
    if (chunk.length > 0 && !this.push(chunk)) this.#webSocket.pause()
  }

  #onPing(data: Buffer): void {
    if (this.#webSocket.bufferedAmount > maxUnreadPongBytes) this.destroy()
    else this.#webSocket.pong(data)
  }

  /** The reason goes out, and nothing more is handed on; `ws` waits a moment for the client to hang up. */
  #refuseText(): void {
    this.#webSocket.removeAllListeners('message')
    this.#webSocket.close(unsupportedData)
  }
}
