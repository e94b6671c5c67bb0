import { once } from 'node:events'
import { createConnection, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { generate, type IPublishPacket, parser } from 'mqtt-packet'

/**
 * Behaves as esp-mqtt does with QoS 1: one message at a time is repeated with DUP after a second without its PUBACK, on the same connection;
 * after a lost connection it reconnects and repeats what is unacknowledged; 30 s after its first send it forgets a message.
 */
export class EspClient {
  readonly #port: number
  readonly #device: string
  readonly #token: string
  #socket: Socket | undefined
  #nextId = 1
  readonly #outbox = new Map<
    number,
    { packet: IPublishPacket; sentMs: number; done: (acknowledged: boolean) => void }
  >()
  #closed = false
  /** Copies sent beyond the first of each message, and connections opened. */
  copies = 0
  connections = 0
  readonly #running: Promise<void>
  readonly #repeats: NodeJS.Timeout

  constructor(port: number, device: string, token: string) {
    this.#port = port
    this.#device = device
    this.#token = token
    this.#running = this.#run()
    this.#repeats = setInterval(() => this.#repeat(), 200)
  }

  /** @returns true at the PUBACK, false when the client has given the message up */
  publish(payload: string): Promise<boolean> {
    const messageId = this.#nextId++
    const packet: IPublishPacket = {
      cmd: 'publish',
      topic: 'devices/me/telemetry',
      payload,
      qos: 1,
      messageId,
      dup: false,
      retain: false,
    }
    return new Promise((done) => {
      this.#outbox.set(messageId, { packet, sentMs: performance.now(), done })
      if (this.#socket !== undefined) this.#socket.write(generate(packet))
    })
  }

  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#repeats)
    this.#socket?.destroy()
    await this.#running
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      await this.#connection().catch(() => {})
      if (!this.#closed) await sleep(500)
    }
  }

  async #connection(): Promise<void> {
    const socket = createConnection(this.#port, '127.0.0.1')
    await once(socket, 'connect')
    this.connections++
    const parse = parser({ protocolVersion: 4 })
    parse.on('packet', (packet) => {
      if (packet.cmd === 'connack' && packet.returnCode === 0) {
        this.#socket = socket
        for (const { packet: unacknowledged } of this.#outbox.values()) this.#send(unacknowledged)
      }
      if (packet.cmd === 'puback' && packet.messageId !== undefined) {
        this.#outbox.get(packet.messageId)?.done(true)
        this.#outbox.delete(packet.messageId)
      }
    })
    socket.on('data', (bytes) => parse.parse(bytes))
    socket.on('error', () => {})
    socket.write(
      generate({
        cmd: 'connect',
        protocolId: 'MQTT',
        protocolVersion: 4,
        clean: false,
        clientId: this.#device,
        keepalive: 120,
        username: this.#device,
        password: Buffer.from(this.#token),
      }),
    )
    await once(socket, 'close')
    this.#socket = undefined
  }

  #repeat(): void {
    const now = performance.now()
    for (const [messageId, { packet, sentMs, done }] of this.#outbox) {
      if (now - sentMs > 30_000) {
        this.#outbox.delete(messageId)
        done(false)
      } else if (this.#socket !== undefined && now - sentMs > 1000 * (this.copiesOf(packet) + 1)) this.#send(packet)
    }
  }

  copiesOf(packet: IPublishPacket): number {
    return (packet as { copies?: number }).copies ?? 0
  }

  #send(packet: IPublishPacket): void {
    const counted = packet as IPublishPacket & { copies?: number }
    counted.copies = (counted.copies ?? 0) + 1
    this.copies++
    this.#socket?.write(generate({ ...packet, dup: true }))
  }
}
