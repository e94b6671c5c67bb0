import { generate, type IConnackPacket, type IDisconnectPacket, parser } from 'mqtt-packet'

export type ProtocolVersion = 4 | 5

/** First bytes of the packets that a publisher meets (MQTT 5.0 §2.1.2). */
export const packetType = { connack: 2, puback: 4, pingresp: 13, disconnect: 14 } as const

export const pingreq: Buffer = Buffer.from([0xc0, 0])
export const disconnect: Buffer = Buffer.from([0xe0, 0])

export function connectFrame(options: {
  protocolVersion: ProtocolVersion
  clientId: string
  username: string
  password: string
  keepAliveSeconds: number
}): Buffer {
  return generate({
    cmd: 'connect',
    protocolId: 'MQTT',
    protocolVersion: options.protocolVersion,
    clientId: options.clientId,
    clean: true,
    keepalive: options.keepAliveSeconds,
    username: options.username,
    password: Buffer.from(options.password),
  })
}

/**
 * Makes PUBLISH frames to one topic. They are strings of bytes (latin1), since sockets take those without a Buffer of their own and
 * several frames join by `+`; topic and body must be ASCII. mqtt-packet's generate costs several times as much.
 */
export function createPublishMaker(mqttTopic: string, protocolVersion: ProtocolVersion) {
  const properties = protocolVersion === 5 ? '\0' : ''
  const topic = String.fromCharCode(mqttTopic.length >>> 8, mqttTopic.length & 0xff) + mqttTopic
  return function publishFrame(body: string, packetId: number, dup: boolean): string {
    const acknowledged = packetId > 0
    const length = topic.length + (acknowledged ? 2 : 0) + properties.length + body.length
    const first = acknowledged ? (dup ? '\x3a' : '\x32') : '\x30'
    const identifier = acknowledged ? String.fromCharCode(packetId >>> 8, packetId & 0xff) : ''
    return first + remainingLength(length) + topic + identifier + properties + body
  }
}

/** Variable byte integer (MQTT 5.0 §1.5.5). */
function remainingLength(length: number): string {
  if (length < 128) return String.fromCharCode(length)
  return String.fromCharCode((length & 127) | 128) + remainingLength(length >>> 7)
}

/**
 * Calls `onPacket` for each whole packet in `data` with its first byte and the bounds of its body.
 * @returns where the first incomplete packet begins (`data.length` when there is none), or -1 when this is no MQTT
 */
export function eachPacket(
  data: Uint8Array,
  end: number,
  onPacket: (firstByte: number, from: number, to: number) => void,
): number {
  let at = 0
  while (at + 2 <= end) {
    let length = 0
    let shift = 0
    let from = at + 1
    for (;;) {
      if (from === end) return at
      const byte = data[from++] as number
      length |= (byte & 127) << shift
      if (byte < 128) break
      shift += 7
      if (shift > 21) return -1
    }
    if (from + length > end) return at
    onPacket(data[at] as number, from, from + length)
    at = from + length
  }
  return at
}

/** Reads one whole packet of the rare kinds, where mqtt-packet's cost does not matter. */
export function readRarePacket(
  frame: Uint8Array,
  protocolVersion: ProtocolVersion,
): IConnackPacket | IDisconnectPacket | undefined {
  let read: IConnackPacket | IDisconnectPacket | undefined
  const reader = parser({ protocolVersion } as never)
  reader.on('packet', (packet) => {
    if (packet.cmd === 'connack' || packet.cmd === 'disconnect') read = packet
  })
  reader.on('error', () => {})
  reader.parse(Buffer.from(frame))
  return read
}
