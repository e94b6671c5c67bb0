import { generate, type IPublishPacket } from 'mqtt-packet'
import { describe, expect, it } from 'vitest'
import { variableByteInteger } from './frame.ts'
import { reasonCode } from './packet-types.ts'
import { PublishPacket } from './publish-packet.ts'
import { seeded } from './testing/seeded.ts'

function read(bytes: Buffer, version: 4 | 5, offset = 0): { code: number; packet: PublishPacket } {
  let body = offset + 1
  while ((bytes[body] as number) & 0x80) body++
  const packet = new PublishPacket()
  return { code: packet.read(bytes, offset, body + 1, bytes.length, version), packet }
}

/** A PUBLISH with a body written by hand. */
function raw(flags: number, body: number[]): Buffer {
  return Buffer.from([0x30 | flags, ...variableByteInteger(body.length), ...body])
}

describe('PublishPacket', () => {
  it('reads what mqtt-packet writes', () => {
    const seed = Date.now() % 1_000_000
    console.info(`publish packet: seed ${seed}`)
    const random = seeded(seed)
    for (let round = 0; round < 2000; round++) {
      const version = random(2) === 0 ? 4 : 5
      const qos = random(3) as 0 | 1 | 2
      const contentType = 'application/json'.slice(0, random(17))
      const properties: NonNullable<IPublishPacket['properties']> = {}
      if (random(2) === 0) properties.contentType = contentType
      if (random(2) === 0) properties.topicAlias = 1 + random(65_535)
      if (random(3) === 0) properties.userProperties = { a: ['1', '2'], ['x'.repeat(random(300))]: 'y' }
      if (random(3) === 0) properties.correlationData = Buffer.alloc(random(200))
      if (random(3) === 0) properties.responseTopic = 'a/b'
      if (random(3) === 0) properties.messageExpiryInterval = random(1000)
      if (random(3) === 0) properties.payloadFormatIndicator = true
      const sent: IPublishPacket = {
        cmd: 'publish',
        topic: `t/${'ü'.repeat(random(100))}`,
        payload: Buffer.alloc(random(500), 'p'),
        qos,
        dup: qos > 0 && random(2) === 0,
        retain: random(2) === 0,
        ...(qos > 0 && { messageId: 1 + random(65_535) }),
        ...(version === 5 && { properties }),
      }
      const offset = random(3)
      const bytes = Buffer.concat([Buffer.alloc(offset), generate(sent, { protocolVersion: version })])
      const { code, packet } = read(bytes, version, offset)
      const what = `seed ${seed}, round ${round}`
      expect(code, what).toBe(0)
      expect(bytes.toString('utf8', packet.topicStart, packet.topicEnd), what).toBe(sent.topic)
      expect(bytes.subarray(packet.payloadStart, packet.end), what).toEqual(sent.payload)
      expect(packet, what).toMatchObject({
        qos,
        dup: sent.dup,
        packetId: sent.messageId ?? 0,
        topicAlias: version === 5 ? (properties.topicAlias ?? 0) : 0,
        contentType: version === 5 ? properties.contentType : undefined,
      })
    }
  })

  it('never throws, whatever the bytes, and never reads past the packet', () => {
    const seed = Date.now() % 1_000_000
    console.info(`publish packet garbage: seed ${seed}`)
    const random = seeded(seed)
    for (let round = 0; round < 20_000; round++) {
      const bytes = raw(
        random(16),
        Array.from({ length: random(40) }, () => (random(3) === 0 ? random(4) : random(256))),
      )
      const { code, packet } = read(bytes, random(2) === 0 ? 4 : 5)
      if (code !== 0) continue
      expect(packet.topicEnd, `seed ${seed}, round ${round}`).toBeLessThanOrEqual(bytes.length)
      expect(packet.payloadStart, `seed ${seed}, round ${round}`).toBeLessThanOrEqual(bytes.length)
    }
  })

  const { malformed, protocolError, topicAliasInvalid } = reasonCode
  it.each([
    ['QoS 3', 6, [0, 1, 97], malformed],
    ['DUP at QoS 0', 8, [0, 1, 97], malformed],
    ['a topic longer than the packet', 0, [0, 9, 97], malformed],
    ['no packet id', 2, [0, 1, 97], malformed],
    ['packet id 0', 2, [0, 1, 97, 0, 0, 0], protocolError],
    ['no property length', 0, [0, 1, 97], malformed],
    ['properties longer than the packet', 0, [0, 1, 97, 9, 1], malformed],
    ['an unknown property', 0, [0, 1, 97, 2, 0x7f, 0], malformed],
    ['a property that is cut off', 0, [0, 1, 97, 2, 0x23, 1], malformed],
    ['topic alias 0', 0, [0, 1, 97, 3, 0x23, 0, 0], topicAliasInvalid],
    ['a topic alias twice', 0, [0, 1, 97, 6, 0x23, 0, 1, 0x23, 0, 1], protocolError],
    ['a subscription identifier', 0, [0, 1, 97, 2, 0x0b, 1], protocolError],
    ['payload format 2', 0, [0, 1, 97, 2, 1, 2], protocolError],
    ['a response topic with a wildcard', 0, [0, 1, 97, 4, 8, 0, 1, 0x23], protocolError],
    ['an empty response topic', 0, [0, 1, 97, 3, 8, 0, 0], protocolError],
    ['a response topic that is not UTF-8', 0, [0, 1, 97, 4, 8, 0, 1, 0xff], malformed],
    ['U+0000 in a content type', 0, [0, 1, 97, 4, 3, 0, 1, 0], malformed],
    ['a surrogate in the name of a user property', 0, [0, 1, 97, 8, 0x26, 0, 3, 0xed, 0xa0, 0x80, 0, 0], malformed],
    ['ill-formed UTF-8 in its value', 0, [0, 1, 97, 7, 0x26, 0, 0, 0, 2, 0xc3, 0x28], malformed],
    ['a payload that is not the UTF-8 it says it is', 0, [0, 1, 97, 2, 1, 1, 0xff], 0],
  ])('MQTT 5: %s', (_what, flags, body, code) => {
    expect(read(raw(flags, body), 5).code).toBe(code)
  })

  it('tells a content type from a topic alias, whose ids share their low bits', () => {
    const { code, packet } = read(raw(0, [0, 1, 97, 7, 3, 0, 1, 106, 0x23, 0, 5]), 5)
    expect(code).toBe(0)
    expect(packet).toMatchObject({ contentType: 'j', topicAlias: 5 })
  })
})
