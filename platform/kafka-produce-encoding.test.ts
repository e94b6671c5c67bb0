import { createRequire } from 'node:module'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { crc32c } from './crc32c.ts'
import { encodeProduce, type ProduceArguments } from './kafka-produce-encoding.ts'

type Request = (args: ProduceArguments) => { encode(): Promise<{ buffer: Buffer }> }
const theirs = createRequire(import.meta.url)('kafkajs/src/protocol/requests/produce/v3/request.js') as Request

const text = fc.string({ unit: 'binary', maxLength: 200 })
const message = fc.record({
  key: fc.oneof(text, fc.constant(null)),
  value: fc.oneof(
    text,
    fc.constant(null),
    fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  ),
  headers: fc.oneof(
    fc.constant(Object.freeze({ 'content-type': 'application/json', schema: 's' })),
    fc.dictionary(fc.string({ minLength: 1, maxLength: 9 }), text, { maxKeys: 3, noNullPrototype: true }),
    fc.constant(undefined),
  ),
  time: fc.integer({ min: 1_700_000_000_000, max: 1_999_999_999_999 }),
})

it('writes the bytes that kafkajs writes', async () => {
  const partition = fc.record({
    partition: fc.nat(100),
    firstSequence: fc.nat(),
    messages: fc.array(message, { minLength: 1, maxLength: 20 }),
  })
  const topics = fc.array(fc.record({ topic: text, partitions: fc.array(partition, { maxLength: 4 }) }), {
    maxLength: 2,
  })
  const sample = fc.asyncProperty(topics, fc.bigInt({ min: 0n, max: 2n ** 62n }), async (drawn, producerId) => {
    const topicData = drawn.map(({ topic, partitions }) => ({
      topic,
      partitions: partitions.map(({ messages, ...rest }) => ({
        ...rest,
        // Ascending, as kafkajs takes the smallest for the batch's time and we the first.
        messages: messages
          .toSorted((a, b) => a.time - b.time)
          .map(({ time, headers, ...body }) => ({ ...body, timestamp: String(time), ...(headers && { headers }) })),
      })),
    }))
    const args = { acks: -1, timeout: 4000, producerId: String(producerId), producerEpoch: 7, topicData }
    const expected = await theirs(args).encode()
    expect(encodeProduce(args).equals(expected.buffer)).toBe(true)
  })
  await fc.assert(sample, { numRuns: 200 })
})

it('takes records whose time goes back', () => {
  const messages = [2000, 1000, 3000].map((time) => ({ value: 'v', timestamp: String(1_790_000_000_000 + time) }))
  const body = encodeProduce({
    acks: -1,
    timeout: 1,
    topicData: [{ topic: 't', partitions: [{ partition: 0, messages }] }],
  })
  const batch = 2 + 2 + 4 + 4 + 2 + 1 + 4 + 4 + 4
  expect(body.readBigInt64BE(batch + 27)).toBe(1_790_000_002_000n)
  expect(body.readBigInt64BE(batch + 35)).toBe(1_790_000_003_000n)
})

it('checks as RFC 3720 does', () => {
  const check = (bytes: Buffer) => crc32c(bytes, 0, bytes.length)
  expect(check(Buffer.alloc(32))).toBe(0x8a9136aa)
  expect(check(Buffer.alloc(32, 0xff))).toBe(0x62a8ab43)
  expect(check(Buffer.from(Array.from({ length: 32 }, (_, index) => index)))).toBe(0x46dd794e)
  expect(check(Buffer.from('123456789'))).toBe(0xe3069283)
})
