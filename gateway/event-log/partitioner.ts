import type { PartitionMetadata } from 'kafkajs'

const maxCachedKeys = 100_000

/**
 * Key → partition as every Kafka client's default does it (murmur2 of the key, positive, modulo the count), so that other producers to the
 * same topics agree. kafkajs' own murmur2 works on objects for 64-bit numbers and costs microseconds a message.
 */
export class KeyHashes {
  private readonly cache = new Map<string, number>()

  of(key: string): number {
    let hash = this.cache.get(key)
    if (hash === undefined) {
      if (this.cache.size >= maxCachedKeys) this.cache.clear()
      hash = murmur2(Buffer.from(key)) & 0x7fffffff
      this.cache.set(key, hash)
    }
    return hash
  }
}

export function murmur2(data: Buffer): number {
  const { length } = data
  const whole = length & ~3
  let hash = 0x9747b28c ^ length
  for (let at = 0; at < whole; at += 4) {
    let word = Math.imul(data.readInt32LE(at), 0x5bd1e995)
    word ^= word >>> 24
    hash = Math.imul(hash, 0x5bd1e995) ^ Math.imul(word, 0x5bd1e995)
  }
  const rest = length & 3
  if (rest > 0) {
    if (rest > 2) hash ^= (data[whole + 2] as number) << 16
    if (rest > 1) hash ^= (data[whole + 1] as number) << 8
    hash = Math.imul(hash ^ (data[whole] as number), 0x5bd1e995)
  }
  hash = Math.imul(hash ^ (hash >>> 13), 0x5bd1e995)
  return hash ^ (hash >>> 15)
}

/** Partitions and leaders of the topics, as they were last seen. */
export class TopicLayout {
  private readonly topics = new Map<string, { seen: readonly PartitionMetadata[]; leaders: Map<number, number> }>()

  /** Cheap enough to be called for every message: metadata changes its identity when it was refreshed. */
  see(topic: string, metadata: readonly PartitionMetadata[]): void {
    if (this.topics.get(topic)?.seen === metadata) return
    const leaders = new Map(metadata.map(({ partitionId, leader }) => [partitionId, leader]))
    this.topics.set(topic, { seen: metadata, leaders })
  }

  count(topic: string): number {
    return this.topics.get(topic)?.seen.length ?? 1
  }

  leader(topic: string, partition: number): number {
    return this.topics.get(topic)?.leaders.get(partition) ?? -1
  }
}
