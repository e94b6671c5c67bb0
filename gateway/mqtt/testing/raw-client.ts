import { once } from 'node:events'
import { createConnection, type Socket } from 'node:net'
import { generate, type IConnectPacket, type IPublishPacket, type Packet, type Parser, parser } from 'mqtt-packet'
import { vi } from 'vitest'

/** An MQTT client that does what it is told and nothing else: no re-sends, no PINGREQ, no answers. */
export class RawClient {
  readonly socket: Socket
  readonly version: 3 | 4 | 5
  readonly packets: Packet[] = []
  /** Bytes as they came, a chunk each. */
  readonly chunks: Buffer[] = []
  isClosed = false
  readonly #parser: Parser

  private constructor(socket: Socket, version: 3 | 4 | 5) {
    this.socket = socket
    this.version = version
    this.#parser = parser({ protocolVersion: version })
    this.#parser.on('packet', (packet) => this.packets.push(packet))
    socket.on('data', (bytes: Buffer) => {
      this.chunks.push(bytes)
      this.#parser.parse(bytes)
    })
    socket.on('error', () => {})
    socket.on('close', () => {
      this.isClosed = true
    })
  }

  /** A socket that has not said anything yet. */
  static async open(port: number, version: 3 | 4 | 5 = 4): Promise<RawClient> {
    const socket = createConnection({ port, host: '127.0.0.1', noDelay: true })
    await once(socket, 'connect')
    return new RawClient(socket, version)
  }

  /** A client that was let in. */
  static async connect(
    port: number,
    device: string,
    version: 3 | 4 | 5 = 4,
    more: Partial<IConnectPacket> = {},
  ): Promise<RawClient> {
    const client = await RawClient.open(port, version)
    client.send(connectPacket(device, version, more))
    const connack = await client.next('connack')
    const code = connack.cmd === 'connack' ? (connack.reasonCode ?? connack.returnCode) : -1
    if (code !== 0) throw new Error(`CONNACK ${code}`)
    client.packets.length = 0
    return client
  }

  send(...packets: Packet[]): void {
    this.socket.write(Buffer.concat(packets.map((packet) => generate(packet, { protocolVersion: this.version }))))
  }

  publish(packetId: number, payload: string, more: Partial<IPublishPacket> = {}): void {
    this.send(publishPacket(packetId, payload, more))
  }

  /** The first packet of a kind, when it is there. */
  async next(cmd: Packet['cmd'], withinMs = 3000): Promise<Packet> {
    return vi.waitUntil(() => this.packets.find((packet) => packet.cmd === cmd), { timeout: withinMs, interval: 2 })
  }

  async closed(withinMs = 3000): Promise<void> {
    await vi.waitUntil(() => this.isClosed, { timeout: withinMs, interval: 2 })
  }

  /** Packet ids of PUBACKs and PUBRECs with their reason codes, in their order. */
  get answers(): [number, number][] {
    return this.packets.flatMap((packet) =>
      packet.cmd === 'puback' || packet.cmd === 'pubrec' ? [[packet.messageId ?? 0, packet.reasonCode ?? 0]] : [],
    )
  }

  async answered(count: number, withinMs = 3000): Promise<[number, number][]> {
    await vi.waitUntil(() => this.answers.length >= count, { timeout: withinMs, interval: 2 })
    return this.answers
  }

  destroy(): void {
    this.socket.destroy()
  }
}

export function connectPacket(device: string, version: 3 | 4 | 5, more: Partial<IConnectPacket> = {}): IConnectPacket {
  return {
    cmd: 'connect',
    protocolId: version === 3 ? 'MQIsdp' : 'MQTT',
    protocolVersion: version,
    clean: true,
    clientId: device.slice(0, 20),
    keepalive: 60,
    username: device,
    password: Buffer.from(`t-${device}`),
    ...more,
  }
}

export function publishPacket(packetId: number, payload: string, more: Partial<IPublishPacket> = {}): IPublishPacket {
  return {
    cmd: 'publish',
    topic: 'devices/me/telemetry',
    payload,
    qos: 1,
    messageId: packetId,
    dup: false,
    retain: false,
    ...more,
  }
}
