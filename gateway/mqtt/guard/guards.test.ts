import { describe, expect, it } from 'vitest'
import { byteFaults, faultsOf } from '../testing/packet-faults.ts'
import {
  binary,
  bodyOf,
  byte,
  type Field,
  packetOf,
  pair,
  properties,
  text,
  uint16,
  uint32,
  validPackets,
  variable,
} from '../testing/packet-sketch.ts'
import { seeded } from '../testing/seeded.ts'
import { faultOfAck } from './ack-guard.ts'
import { faultOfConnect } from './connect-guard.ts'
import { faultOfControlPacket } from './control-guard.ts'
import { faultOfDisconnect } from './disconnect-guard.ts'
import { place, scanProperties, seen } from './properties.ts'
import { Scan } from './scan.ts'
import { faultOfSubscribe, faultOfUnsubscribe } from './subscribe-guard.ts'
import { faultOfText } from './text.ts'

const [ok, malformed, protocolError, quotaExceeded] = [0, 0x81, 0x82, 0x97]

describe('faultOfText', () => {
  it.each([
    ['', ok],
    ['plain ASCII with \u0001 and \u007f', ok], // control characters may be refused, and are not
    ['ä€💧', ok],
    ['\ufeff', ok], // [MQTT-1.5.4-3]
    ['a\0', malformed],
    ['ä\0', malformed],
    [Buffer.from([0xc3]), malformed],
    [Buffer.from([0xed, 0xa0, 0x80]), malformed],
    [Buffer.from([0xc0, 0x80]), malformed],
  ])('%j', (value, code) => {
    const bytes = Buffer.concat([Buffer.from([0xff]), Buffer.from(value as string), Buffer.from([0])])
    expect(faultOfText(bytes, 1, bytes.length - 1)).toBe(code)
  })
})

describe('scanProperties', () => {
  const scanned = (where: number, field: Field) => {
    const bytes = bodyOf([field])
    const scan = new Scan(bytes, 0, bytes.length)
    const found = scanProperties(scan, where)
    return { found, fault: scan.finish() }
  }

  it.each([
    ['none', place.connect, properties(), ok],
    [
      'user properties again and again',
      place.unsubscribe,
      properties([0x26, pair('a', 'b')], [0x26, pair('a', 'b')]),
      ok,
    ],
    ['a receive maximum of 0', place.connect, properties([0x21, uint16(0)]), protocolError],
    ['a maximum packet size of 0', place.connect, properties([0x27, uint32(0)]), protocolError],
    ['a topic alias maximum of 0', place.connect, properties([0x22, uint16(0)]), ok],
    ['a session expiry twice', place.disconnect, properties([0x11, uint32(1)], [0x11, uint32(1)]), protocolError],
    ['a will delay outside of a will', place.connect, properties([0x18, uint32(1)]), malformed],
    ['a will delay in a will', place.will, properties([0x18, uint32(1)]), ok],
    ['a subscription identifier of 0', place.subscribe, properties([0x0b, variable(0)]), protocolError],
    ['the largest subscription identifier', place.subscribe, properties([0x0b, variable(268_435_455)]), ok],
    ['a property of a server', place.connect, properties([0x24, byte(1)]), malformed],
    ['a server reference of a client', place.disconnect, properties([0x1c, text('x')]), protocolError],
    ['a problem information of 2', place.connect, properties([0x17, byte(2)]), protocolError],
  ] as const)('%s', (_what, where, field, code) => {
    expect(scanned(where, field).fault).toBe(code)
  })

  it('tells what it has seen, and lets no property reach past the end of all', () => {
    expect(scanned(place.connect, properties([0x15, text('m')], [0x16, binary('d')])).found).toBe(
      seen.authenticationMethod | seen.authenticationData,
    )
    const bytes = Buffer.from([3, 0x1f, 0, 2, 0x61, 0x61])
    const scan = new Scan(bytes, 0, bytes.length)
    scanProperties(scan, place.ack)
    expect(scan.fault).toBe(malformed)
  })
})

describe('faultOfConnect', () => {
  const fault = (version: 4 | 5, flags: number, ...fields: Field[]) => {
    const bytes = bodyOf([byte(flags), uint16(0), ...(version === 5 ? [properties()] : []), text('id'), ...fields])
    return faultOfConnect(bytes, 0, bytes.length, version)
  }
  const will = (version: 4 | 5) => [...(version === 5 ? [properties()] : []), text('t'), binary('p')]

  it.each([
    ['nothing but a client id', 0x02, [], ok, ok],
    ['the reserved flag', 0x03, [], malformed, malformed],
    ['a will QoS without a will', 0x0a, [], malformed, malformed],
    ['a will retain without a will', 0x22, [], malformed, malformed],
    ['a password without a user name', 0x42, [binary('p')], malformed, ok],
    ['a user name that is missing', 0x82, [], malformed, malformed],
    ['one byte too many', 0x02, [byte(0)], malformed, malformed],
  ] as const)('%s', (_what, flags, fields, level4, level5) => {
    expect(fault(4, flags, ...fields)).toBe(level4)
    expect(fault(5, flags, ...fields)).toBe(level5)
  })

  it('takes wills of QoS 0 to 2, and none of QoS 3', () => {
    for (const version of [4, 5] as const)
      expect([0x06, 0x0e, 0x16, 0x1e].map((flags) => fault(version, flags, ...will(version)))).toEqual([
        0,
        0,
        0,
        malformed,
      ])
  })

  it('with authentication data, but no method', () => {
    const bytes = bodyOf([byte(2), uint16(0), properties([0x16, binary('d')]), text('id')])
    expect(faultOfConnect(bytes, 0, bytes.length, 5)).toBe(protocolError)
  })
})

describe('faultOfSubscribe and faultOfUnsubscribe', () => {
  const head = (version: 4 | 5, id = 1) => [uint16(id), ...(version === 5 ? [properties()] : [])]
  const subscribe = (version: 4 | 5, filter: string | Buffer, options: number, id = 1) => {
    const bytes = bodyOf([...head(version, id), text(filter), byte(options)])
    return faultOfSubscribe(bytes, 0, bytes.length, version, 8)
  }

  it.each([
    ['QoS 2', 'a', 0x02, ok, ok],
    ['QoS 3', 'a', 0x03, malformed, protocolError],
    ['No Local', 'a', 0x04, malformed, ok],
    ['No Local on a shared filter', '$share/g/a', 0x04, malformed, protocolError],
    ['no No Local on a shared filter', '$share/g/a', 0x01, ok, ok],
    ['Retain Handling 2', 'a', 0x20, malformed, ok],
    ['Retain Handling 3', 'a', 0x30, malformed, protocolError],
    ['reserved bits', 'a', 0x40, malformed, malformed],
    ['an empty filter', '', 0, protocolError, protocolError],
    ['U+0000 in a filter', 'a\0', 0, malformed, malformed],
    ['a filter that is none', 'a/#/b', 0, ok, ok], // it hears so in the SUBACK
  ])('%s', (_what, filter, options, level4, level5) => {
    expect(subscribe(4, filter, options)).toBe(level4)
    expect(subscribe(5, filter, options)).toBe(level5)
  })

  it('packet id 0, no filter, and too many of them', () => {
    for (const version of [4, 5] as const) {
      expect(subscribe(version, 'a', 0, 0)).toBe(protocolError)
      const list = (count: number, ...field: Field[]) =>
        bodyOf([...head(version), ...Array.from({ length: count }, () => field).flat()])
      for (const [count, code] of [
        [0, protocolError],
        [8, ok],
        [9, quotaExceeded],
      ] as const) {
        const subscribes = list(count, text('a'), byte(0))
        const unsubscribes = list(count, text('a'))
        expect(faultOfSubscribe(subscribes, 0, subscribes.length, version, 8)).toBe(code)
        expect(faultOfUnsubscribe(unsubscribes, 0, unsubscribes.length, version, 8)).toBe(code)
      }
    }
  })
})

describe('faultOfAck', () => {
  const fault = (first: number, version: 4 | 5, ...bytes: number[]) =>
    faultOfAck(first >> 4, Buffer.from(bytes), 0, bytes.length, version)

  it.each([
    ['a packet id', 0x40, [0, 7], ok, ok],
    ['nothing', 0x40, [], malformed, malformed],
    ['half a packet id', 0x40, [7], malformed, malformed],
    ['packet id 0', 0x62, [0, 0], protocolError, protocolError],
    ['a reason code', 0x50, [0, 7, 0x97], malformed, ok],
    ['a reason code of another packet', 0x62, [0, 7, 0x97], malformed, protocolError],
    ['one that does not exist', 0x40, [0, 7, 0x42], malformed, protocolError],
    ['no properties', 0x70, [0, 7, 0x92, 0], malformed, ok],
    ['bytes behind the properties', 0x70, [0, 7, 0x92, 0, 0], malformed, malformed],
  ])('%s', (_what, first, bytes, level4, level5) => {
    expect(fault(first, 4, ...bytes)).toBe(level4)
    expect(fault(first, 5, ...bytes)).toBe(level5)
  })
})

describe('faultOfDisconnect', () => {
  const fault = (version: 4 | 5, ...bytes: number[]) => faultOfDisconnect(Buffer.from(bytes), 0, bytes.length, version)

  it('has nothing in 3.1.1, and in MQTT 5 what a client may say', () => {
    expect([fault(4), fault(4, 0), fault(5), fault(5, 4), fault(5, 0, 0)]).toEqual([0, malformed, 0, 0, 0])
    expect([fault(5, 0x8b), fault(5, 1), fault(5, 0, 1), fault(5, 0, 0, 0)]).toEqual([
      protocolError,
      protocolError,
      malformed,
      malformed,
    ])
  })
})

describe('faultOfControlPacket', () => {
  const fault = (bytes: Buffer, version: 4 | 5 = 5) => faultOfControlPacket(bytes, 0, 2, bytes.length, version, 32)

  it('asks for the flags of each type, and for what clients send', () => {
    expect(fault(packetOf(0xc0, Buffer.alloc(0)))).toBe(ok)
    expect(fault(packetOf(0xc0, Buffer.from([0])))).toBe(malformed)
    for (const type of [1, 2, 9, 11, 13, 15]) {
      expect(fault(packetOf(type << 4, Buffer.alloc(0)))).toBe(protocolError)
      expect(fault(packetOf((type << 4) | 1, Buffer.alloc(0)))).toBe(malformed)
    }
    for (const flags of [0, 1, 2]) expect(fault(packetOf(flags, Buffer.alloc(0)))).toBe(malformed)
    for (const first of [0x60, 0x80, 0xa0]) expect(fault(packetOf(first, Buffer.from([0, 1])))).toBe(malformed)
  })

  it('never throws and never reads past the packet, whatever the bytes', () => {
    const seed = Date.now() % 1_000_000
    console.info(`packet guard garbage: seed ${seed}`)
    const random = seeded(seed)
    const packets = validPackets().filter(({ first }) => first !== 0x10 && first >> 4 !== 3)
    const faults = [...packets.flatMap((sketch) => faultsOf(sketch, random)), ...byteFaults(packets, random)]
    for (let n = 0; n < 20_000; n++) {
      const { bytes, sketch } = faults[random(faults.length)] as (typeof faults)[number]
      const changed = Buffer.from(bytes)
      if (changed.length > 3) changed[2 + random(changed.length - 2)] = random(256)
      const alone = fault(changed, sketch.version)
      const behind = Buffer.concat([changed, Buffer.from([random(256), random(256)])])
      expect(faultOfControlPacket(behind, 0, 2, changed.length, sketch.version, 32), `seed ${seed}`).toBe(alone)
    }
  })
})
