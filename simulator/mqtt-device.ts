import { connect, type Socket } from 'node:net'
import {
  connectFrame,
  type createPublishMaker,
  disconnect,
  eachPacket,
  type ProtocolVersion,
  packetType,
  pingreq,
  readRarePacket,
} from './mqtt-frames.ts'

/** What a device sends and whom it tells; the fleet implements it once for all. */
export interface MqttDeviceOwner {
  readonly host: string
  readonly port: number
  readonly protocolVersion: ProtocolVersion
  readonly qos: 0 | 1
  readonly keepAliveSeconds: number
  /** Unacknowledged messages of one device; a smaller Receive Maximum of the other side wins. */
  readonly maxInFlight: number
  readonly publishFrame: ReturnType<typeof createPublishMaker>
  /** In [0, 1), for the jitter. */
  random(): number
  /** Number of the device's next message, 0 when nothing is due. */
  take(device: number): number
  body(device: number, number: number): string
  acknowledged(device: number, number: number): void
  /** PUBACK with a reason code of 0x80 or above: the exchange is over, the message is not sent again. */
  refused(device: number, number: number, reasonCode: number): void
  onConnected(device: number): void
  /** @param reason an error code of the system, `connack 0x87`, `disconnect 0x96`, `closed` or `silent` */
  onLost(device: number, wasConnected: boolean, reason: string): void
  onResent(device: number, messages: number): void
}

const firstRetryMs = 100
/** A connection that lasted shorter was no success: the next try comes later than the one before. */
const stableMs = 2000
const longestRetryMs = 3000
/** From the first try to CONNACK. */
const connectTimeoutMs = 10_000
/** Past this much unsent in its own socket a QoS 0 device waits: nobody tells it that the other side has stopped reading. */
const maxUnsentBytes = 1_048_576

/**
 * One device over MQTT 3.1.1 or 5, made for thousands in a process: no packet objects, no streams on the way in, one write for all
 * that is due. Publishes in order; what was not acknowledged is sent again with DUP after a reconnect, under its old packet identifier.
 */
export class MqttDevice {
  readonly #owner: MqttDeviceOwner
  readonly #index: number
  readonly #login: { readonly device: string; readonly token: string }
  /** Packet identifier → number of the message, in sending order. */
  readonly #inFlight = new Map<number, number>()
  #socket: Socket | undefined
  #connected = false
  #closed = false
  #rest: Buffer | undefined
  #packetId = 0
  #window: number
  #keepAliveMs: number
  #failures = 0
  #connectedAtMs = 0
  #retry: NodeJS.Timeout | undefined
  #reason = 'closed'
  #lastSentMs = 0
  #lastHeardMs = 0

  constructor(owner: MqttDeviceOwner, index: number, login: { readonly device: string; readonly token: string }) {
    this.#owner = owner
    this.#index = index
    this.#login = login
    this.#window = owner.maxInFlight
    this.#keepAliveMs = owner.keepAliveSeconds * 1000
  }

  get connected(): boolean {
    return this.#connected
  }

  /** True while there is a socket, signed in or not. */
  get open(): boolean {
    return this.#socket !== undefined
  }

  get inFlight(): number {
    return this.#inFlight.size
  }

  connect(): void {
    if (this.#closed || this.#socket !== undefined) return
    this.#rest = undefined
    this.#reason = 'closed'
    this.#lastHeardMs = performance.now()
    const socket = connect({
      host: this.#owner.host,
      port: this.#owner.port,
      noDelay: true,
      onread: {
        buffer: Buffer.allocUnsafeSlow(2048),
        callback: (bytes, buffer) => {
          if (socket === this.#socket) this.#onBytes(buffer, bytes)
          return true
        },
      },
    })
    this.#socket = socket
    socket.on('connect', () => {
      socket.write(
        connectFrame({
          protocolVersion: this.#owner.protocolVersion,
          clientId: this.#login.device,
          username: this.#login.device,
          password: this.#login.token,
          keepAliveSeconds: this.#owner.keepAliveSeconds,
        }),
      )
    })
    socket.on('drain', () => this.flush())
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (this.#reason === 'closed') this.#reason = error.code ?? 'error'
    })
    // The other side has said its last: answering FIN at once ends a half-open connection that would be written to for ever.
    socket.on('end', () => socket.destroy())
    socket.on('close', () => this.#onClose(socket))
  }

  /** Sends all that is due and fits. */
  flush(): void {
    const socket = this.#socket
    if (!this.#connected || socket === undefined || socket.destroyed) return
    const owner = this.#owner
    let out = ''
    if (owner.qos === 0) {
      while (socket.writableLength + out.length < maxUnsentBytes) {
        const number = owner.take(this.#index)
        if (number === 0) break
        out += owner.publishFrame(owner.body(this.#index, number), 0, false)
      }
    } else {
      while (this.#inFlight.size < this.#window) {
        const number = owner.take(this.#index)
        if (number === 0) break
        const packetId = this.#nextPacketId()
        this.#inFlight.set(packetId, number)
        out += owner.publishFrame(owner.body(this.#index, number), packetId, false)
      }
    }
    if (out !== '') this.#write(socket, out)
  }

  /** Looks after the keep alive; called about once a second. */
  tick(nowMs: number): void {
    const socket = this.#socket
    if (socket === undefined || this.#keepAliveMs === 0) return
    const silentMs = nowMs - this.#lastHeardMs
    if (silentMs > (this.#connected ? this.#keepAliveMs * 1.5 : connectTimeoutMs)) {
      this.#giveUp('silent')
    } else if (
      this.#connected &&
      (nowMs - this.#lastSentMs > this.#keepAliveMs / 2 || silentMs > this.#keepAliveMs / 2)
    ) {
      this.#lastSentMs = nowMs
      socket.write(pingreq)
    }
  }

  /** Says goodbye for good; unanswered messages stay unanswered. */
  close(): void {
    this.#closed = true
    clearTimeout(this.#retry)
    const socket = this.#socket
    if (this.#connected) socket?.end(disconnect, () => socket.destroy())
    else socket?.destroy()
  }

  /** Ends what {@link close} could not, because the other side takes nothing any more. */
  destroy(): void {
    this.#socket?.destroy()
  }

  #nextPacketId(): number {
    // The window is far below 65,535, so a free one is near.
    do this.#packetId = this.#packetId === 65_535 ? 1 : this.#packetId + 1
    while (this.#inFlight.has(this.#packetId))
    return this.#packetId
  }

  #write(socket: Socket, frames: string): void {
    this.#lastSentMs = performance.now()
    socket.write(frames, 'latin1')
  }

  #onBytes(buffer: Uint8Array, bytes: number): void {
    this.#lastHeardMs = performance.now()
    let data = buffer
    let end = bytes
    if (this.#rest !== undefined) {
      data = Buffer.concat([this.#rest, buffer.subarray(0, bytes)])
      end = data.length
      this.#rest = undefined
    }
    const next = eachPacket(data, end, (firstByte, from, to) => this.#onPacket(data, firstByte, from, to))
    if (next < 0) this.#giveUp('not MQTT')
    else if (next < end) this.#rest = Buffer.from(data.subarray(next, end))
    this.flush()
  }

  #onPacket(data: Uint8Array, firstByte: number, from: number, to: number): void {
    const type = firstByte >>> 4
    if (type === packetType.puback && this.#connected) {
      const packetId = ((data[from] as number) << 8) | (data[from + 1] as number)
      const number = this.#inFlight.get(packetId)
      if (number === undefined) return
      this.#inFlight.delete(packetId)
      const reasonCode = to - from > 2 ? (data[from + 2] as number) : 0
      if (reasonCode < 0x80) this.#owner.acknowledged(this.#index, number)
      else this.#owner.refused(this.#index, number, reasonCode)
    } else if (type === packetType.connack) this.#onConnack(frameOf(data, firstByte, from, to))
    else if (!this.#connected) this.#giveUp('not MQTT')
    else if (type === packetType.disconnect) {
      const packet = readRarePacket(frameOf(data, firstByte, from, to), this.#owner.protocolVersion)
      this.#giveUp(`disconnect ${hex(packet?.cmd === 'disconnect' ? (packet.reasonCode ?? 0) : 0)}`)
    }
  }

  #onConnack(frame: Buffer): void {
    const packet = readRarePacket(frame, this.#owner.protocolVersion)
    const code = packet?.cmd === 'connack' ? (packet.reasonCode ?? packet.returnCode ?? 0) : undefined
    if (packet?.cmd !== 'connack' || code !== 0) {
      this.#giveUp(`connack ${code === undefined ? 'unreadable' : hex(code)}`)
      return
    }
    this.#window = Math.min(this.#owner.maxInFlight, packet.properties?.receiveMaximum ?? 65_535)
    this.#keepAliveMs = (packet.properties?.serverKeepAlive ?? this.#owner.keepAliveSeconds) * 1000
    this.#connected = true
    this.#connectedAtMs = performance.now()
    this.#owner.onConnected(this.#index)
    this.#resend()
    this.flush()
  }

  #resend(): void {
    if (this.#inFlight.size === 0 || this.#socket === undefined) return
    const owner = this.#owner
    let out = ''
    for (const [packetId, number] of this.#inFlight)
      out += owner.publishFrame(owner.body(this.#index, number), packetId, true)
    owner.onResent(this.#index, this.#inFlight.size)
    this.#write(this.#socket, out)
  }

  /** Ends this connection for a reason of ours; another try follows. */
  #giveUp(reason: string): void {
    if (this.#reason === 'closed') this.#reason = reason
    this.#socket?.destroy()
  }

  #onClose(socket: Socket): void {
    if (socket !== this.#socket) return
    const wasConnected = this.#connected
    this.#socket = undefined
    this.#connected = false
    if (this.#closed) return
    this.#owner.onLost(this.#index, wasConnected, this.#reason)
    if (wasConnected && performance.now() - this.#connectedAtMs >= stableMs) this.#failures = 0
    const longest = Math.min(longestRetryMs, firstRetryMs * 2 ** this.#failures++)
    this.#retry = setTimeout(() => this.connect(), longest * (0.5 + this.#owner.random() / 2))
  }
}

/** The whole packet as bytes, for a reader that wants its fixed header too. */
function frameOf(data: Uint8Array, firstByte: number, from: number, to: number): Buffer {
  const length = to - from
  const header = [firstByte]
  let left = length
  do {
    header.push((left & 127) | (left > 127 ? 128 : 0))
    left >>>= 7
  } while (left > 0)
  return Buffer.concat([Buffer.from(header), data.subarray(from, to)])
}

export function hex(code: number): string {
  return `0x${code.toString(16).padStart(2, '0')}`
}
