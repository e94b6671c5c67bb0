import { createRequire } from 'node:module'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { KeyHashes, murmur2, TopicLayout } from './partitioner.ts'

const theirs = createRequire(import.meta.url)('kafkajs/src/producer/partitioners/default/murmur2.js') as (
  key: Buffer,
) => number

it('hashes as kafkajs and the Java client do', () => {
  // From Kafka's own UtilsTest.testMurmur2.
  expect(murmur2(Buffer.from('21'))).toBe(-973932308)
  expect(murmur2(Buffer.from('foobar'))).toBe(-790332482)
  expect(murmur2(Buffer.from('a-little-bit-long-string'))).toBe(-985981536)
  expect(murmur2(Buffer.from('lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8'))).toBe(-58897971)
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 40 }),
      (bytes) => murmur2(Buffer.from(bytes)) === theirs(Buffer.from(bytes)),
    ),
  )
})

it('remembers hashes without changing them', () => {
  const hashes = new KeyHashes()
  const first = hashes.of('default/pump-1')
  expect(first).toBe(murmur2(Buffer.from('default/pump-1')) & 0x7fffffff)
  expect(hashes.of('default/pump-1')).toBe(first)
})

it('follows partitions and leaders as metadata shows them', () => {
  const layout = new TopicLayout()
  expect([layout.count('t'), layout.leader('t', 0)]).toEqual([1, -1])
  const partitionOf = (partitionId: number, leader: number) => ({
    partitionId,
    leader,
    partitionErrorCode: 0,
    replicas: [],
    isr: [],
  })
  layout.see('t', [partitionOf(0, 1), partitionOf(1, 2)])
  expect([layout.count('t'), layout.leader('t', 0), layout.leader('t', 1)]).toEqual([2, 1, 2])
})
