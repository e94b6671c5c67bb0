import { expect, it } from 'vitest'
import { seeded } from '../testing/seeded.ts'
import { decodeMessage, encodeMessage, readNumbered, type WireMessage } from './wire-message.ts'

const wire = (more: Partial<WireMessage['message']> = {}): WireMessage => ({
  gateway: 'one',
  count: 7,
  from: 'default/pump-1/é\n\u0001',
  owner: 'default/pump-1',
  expiresAtMs: 0,
  message: {
    insideTopic: 'default/to/ä\n',
    payload: Buffer.from([0, 255, 10, 13]),
    qos: 1,
    retain: true,
    properties: undefined,
    expirySeconds: 0,
    ...more,
  },
})

it.each([{}, { properties: Buffer.from([1, 2, 3]) }, { properties: Buffer.alloc(0) }, { payload: Buffer.alloc(0) }])(
  'a message is read as it was written: %o',
  (more) => {
    const numbered = readNumbered(Buffer.concat([Buffer.from('1795625140687351\n'), encodeMessage(wire(more))]))
    expect(numbered?.number).toBe(1795625140687351)
    expect(decodeMessage(numbered?.encoded as Buffer)).toEqual(wire(more))
  },
)

it('what is left of its time is told, and nothing of one whose time is over', () => {
  const encoded = encodeMessage({ ...wire(), expiresAtMs: 10_000 })
  expect(decodeMessage(encoded, 7500)?.message.expirySeconds).toBe(3)
  expect(decodeMessage(encoded, 10_000)).toBeUndefined()
})

it('whatever lies in Redis is a message or none, and never throws', () => {
  const seed = Date.now() % 1_000_000
  console.info(`wire messages: seed ${seed}`)
  const random = seeded(seed)
  const whole = encodeMessage(wire({ properties: Buffer.from('abc') }))
  for (let n = 0; n < 5000; n++) {
    const bytes = Buffer.from(whole.subarray(0, random(whole.length + 1)))
    for (let faults = random(4); faults > 0 && bytes.length > 0; faults--) bytes[random(bytes.length)] = random(256)
    readNumbered(bytes)
    const read = decodeMessage(bytes)
    if (read !== undefined) expect(typeof read.message.insideTopic, `seed ${seed}`).toBe('string')
  }
  for (const text of ['null', '1', '[]', '{"t":1}', '{"t":"a","g":"b","f":"c","o":"d","n":0,"e":0,"q":9,"p":0}']) {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(text.length)
    expect(decodeMessage(Buffer.concat([length, Buffer.from(text)])), text).toBeUndefined()
  }
})
