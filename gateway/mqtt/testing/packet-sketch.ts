import { variableByteInteger } from '../frame.ts'

/** One field of a packet, so that faults can be made field by field. */
export interface Field {
  readonly kind: 'byte' | 'uint16' | 'uint32' | 'text' | 'binary' | 'variable' | 'pair' | 'rest' | 'properties'
  /** As on the wire; of properties all of them, without their length. */
  readonly bytes: Buffer
  readonly items?: readonly PropertyField[]
}

export interface PropertyField {
  readonly id: number
  readonly value: Field
}

/** A valid packet in parts. */
export interface Sketch {
  readonly name: string
  readonly version: 4 | 5
  /** Type and flags. */
  readonly first: number
  readonly fields: readonly Field[]
  /** Lengths of the body to which it may be cut and is a packet still. */
  readonly validCuts: (length: number) => boolean
}

export const byte = (value: number): Field => ({ kind: 'byte', bytes: Buffer.from([value]) })
export const uint16 = (value: number): Field => ({ kind: 'uint16', bytes: Buffer.from([value >> 8, value & 0xff]) })
export const uint32 = (value: number): Field => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return { kind: 'uint32', bytes }
}
export const variable = (value: number): Field => ({ kind: 'variable', bytes: Buffer.from(variableByteInteger(value)) })
export const text = (value: string | Buffer): Field => ({ kind: 'text', bytes: prefixed(Buffer.from(value)) })
export const binary = (value: string): Field => ({ kind: 'binary', bytes: prefixed(Buffer.from(value)) })
export const rest = (value: string): Field => ({ kind: 'rest', bytes: Buffer.from(value) })
export const pair = (name: string, value: string): Field => ({
  kind: 'pair',
  bytes: Buffer.concat([prefixed(Buffer.from(name)), prefixed(Buffer.from(value))]),
})

export function properties(...items: readonly (readonly [number, Field])[]): Field {
  return propertiesOf(items.map(([id, value]) => ({ id, value })))
}

export function propertiesOf(items: readonly PropertyField[]): Field {
  const bytes = Buffer.concat(items.flatMap(({ id, value }) => [Buffer.from([id]), value.bytes]))
  return { kind: 'properties', bytes, items }
}

export function bodyOf(fields: readonly Field[]): Buffer {
  return Buffer.concat(
    fields.flatMap(({ kind, bytes }) =>
      kind === 'properties' ? [Buffer.from(variableByteInteger(bytes.length)), bytes] : [bytes],
    ),
  )
}

export function packetOf(first: number, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from([first, ...variableByteInteger(body.length)]), body])
}

export function prefixed(bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 0xff]), bytes])
}

const never = () => false
const user = [0x26, pair('name', 'value')] as const

/** Every packet that a client may send, with all that can stand in it. */
export function validPackets(): Sketch[] {
  return [...level5(), ...level4()]
}

function level5(): Sketch[] {
  const ack = (name: string, first: number): Sketch => ({
    name,
    version: 5,
    first,
    fields: [uint16(7), byte(0), properties([0x1f, text('why')], user, user)],
    validCuts: (length) => length === 2 || length === 3,
  })
  const publish = (name: string, first: number): Sketch => {
    const qos = (first >> 1) & 3
    const fields = [
      text('devices/me/telemetry'),
      ...(qos > 0 ? [uint16(7)] : []),
      properties(
        [0x01, byte(1)],
        [0x02, uint32(60)],
        [0x03, text('application/json')],
        [0x08, text('devices/me/answers')],
        [0x09, binary('correlation')],
        [0x23, uint16(3)],
        user,
      ),
    ]
    const headSize = bodyOf(fields).length
    return { name, version: 5, first, fields: [...fields, rest('{"a":1}')], validCuts: (length) => length >= headSize }
  }
  const subscribeHead = [uint16(9), properties([0x0b, variable(300)], user), text('devices/me/errors'), byte(0x2d)]
  const unsubscribeHead = [uint16(9), properties(user, user), text('devices/me/errors')]
  return [
    {
      name: 'CONNECT',
      version: 5,
      first: 0x10,
      fields: [
        text('MQTT'),
        byte(5),
        byte(0xce),
        uint16(60),
        properties(
          [0x11, uint32(60)],
          [0x21, uint16(20)],
          [0x27, uint32(5000)],
          [0x22, uint16(5)],
          [0x19, byte(1)],
          [0x17, byte(1)],
          user,
        ),
        text('client'),
        properties(
          [0x18, uint32(5)],
          [0x01, byte(1)],
          [0x02, uint32(60)],
          [0x03, text('text/plain')],
          [0x08, text('devices/me/answers')],
          [0x09, binary('data')],
          user,
        ),
        text('devices/me/telemetry'),
        binary('gone'),
        text('probe'),
        binary('t-probe'),
      ],
      validCuts: never,
    },
    publish('PUBLISH QoS 0', 0x30),
    publish('PUBLISH QoS 1', 0x32),
    publish('PUBLISH QoS 2', 0x34),
    ack('PUBACK', 0x40),
    ack('PUBREC', 0x50),
    ack('PUBREL', 0x62),
    ack('PUBCOMP', 0x70),
    {
      name: 'SUBSCRIBE',
      version: 5,
      first: 0x82,
      fields: [...subscribeHead, text('devices/me/#'), byte(1)],
      validCuts: (length) => length === bodyOf(subscribeHead).length,
    },
    {
      name: 'UNSUBSCRIBE',
      version: 5,
      first: 0xa2,
      fields: [...unsubscribeHead, text('devices/me/#')],
      validCuts: (length) => length === bodyOf(unsubscribeHead).length,
    },
    { name: 'PINGREQ', version: 5, first: 0xc0, fields: [], validCuts: never },
    {
      name: 'DISCONNECT',
      version: 5,
      first: 0xe0,
      fields: [byte(0), properties([0x11, uint32(60)], [0x1f, text('bye')], user)],
      validCuts: (length) => length < 2,
    },
  ]
}

function level4(): Sketch[] {
  const ack = (name: string, first: number): Sketch => ({
    name,
    version: 4,
    first,
    fields: [uint16(7)],
    validCuts: never,
  })
  const publish = (name: string, first: number): Sketch => {
    const fields = [text('devices/me/telemetry'), ...(((first >> 1) & 3) > 0 ? [uint16(7)] : [])]
    const headSize = bodyOf(fields).length
    return { name, version: 4, first, fields: [...fields, rest('{"a":1}')], validCuts: (length) => length >= headSize }
  }
  const subscribeHead = [uint16(9), text('devices/me/errors'), byte(1)]
  const unsubscribeHead = [uint16(9), text('devices/me/errors')]
  return [
    {
      name: 'CONNECT',
      version: 4,
      first: 0x10,
      fields: [
        text('MQTT'),
        byte(4),
        byte(0xce),
        uint16(60),
        text('client'),
        text('devices/me/telemetry'),
        binary('gone'),
        text('probe'),
        binary('t-probe'),
      ],
      validCuts: never,
    },
    publish('PUBLISH QoS 0', 0x30),
    publish('PUBLISH QoS 1', 0x32),
    publish('PUBLISH QoS 2', 0x34),
    ack('PUBACK', 0x40),
    ack('PUBREC', 0x50),
    ack('PUBREL', 0x62),
    ack('PUBCOMP', 0x70),
    {
      name: 'SUBSCRIBE',
      version: 4,
      first: 0x82,
      fields: [...subscribeHead, text('devices/me/#'), byte(0)],
      validCuts: (length) => length === bodyOf(subscribeHead).length,
    },
    {
      name: 'UNSUBSCRIBE',
      version: 4,
      first: 0xa2,
      fields: [...unsubscribeHead, text('devices/me/#')],
      validCuts: (length) => length === bodyOf(unsubscribeHead).length,
    },
    { name: 'PINGREQ', version: 4, first: 0xc0, fields: [], validCuts: never },
    { name: 'DISCONNECT', version: 4, first: 0xe0, fields: [], validCuts: never },
  ]
}
