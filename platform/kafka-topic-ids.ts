import { apiVersionsKey, exchange, requestBytes } from './kafka-wire.ts'

const metadataKey = 3
const metadataVersion = 12

/**
 * Asks one broker for topic ids by Metadata v12 (KIP-516): kafkajs 2.2.4 speaks version 6, which has none.
 * @returns topic name → its id in hexadecimal, another one for a topic that was deleted and made again; undefined when the broker is too old to say
 * @throws Error when the broker can't be reached or doesn't answer within the time
 */
export async function fetchTopicIds(
  broker: string,
  topics: readonly string[],
  timeoutMs = 5000,
): Promise<ReadonlyMap<string, string> | undefined> {
  const versions = await exchange(broker, requestBytes(apiVersionsKey, 0, Buffer.alloc(0)), timeoutMs)
  if (newestVersion(versions, metadataKey) < metadataVersion) return undefined
  const response = await exchange(broker, requestBytes(metadataKey, metadataVersion, metadataBody(topics)), timeoutMs)
  return readMetadata(new Reader(response))
}

/** Flexible version: compact arrays and strings carry their length + 1, and every structure ends with its tagged fields (none). */
function metadataBody(topics: readonly string[]): Buffer {
  const noTags = Buffer.from([0])
  const parts = [noTags, unsignedVarint(topics.length + 1)] // the first closes the request header (version 2)
  for (const topic of topics) {
    const name = Buffer.from(topic)
    parts.push(Buffer.alloc(16), unsignedVarint(name.length + 1), name, noTags)
  }
  parts.push(Buffer.from([0, 0]), noTags) // allow_auto_topic_creation, include_topic_authorized_operations
  return Buffer.concat(parts)
}

function unsignedVarint(value: number): Buffer {
  const bytes: number[] = []
  let rest = value
  while (rest > 127) {
    bytes.push((rest & 127) | 128)
    rest >>>= 7
  }
  bytes.push(rest)
  return Buffer.from(bytes)
}

function newestVersion(response: Buffer, apiKey: number): number {
  const count = response.readInt32BE(2)
  for (let index = 0; index < count; index++) {
    const at = 6 + index * 6
    if (response.readInt16BE(at) === apiKey) return response.readInt16BE(at + 4)
  }
  return -1
}

function readMetadata(reader: Reader): Map<string, string> {
  reader.skipTags() // end of the response header (version 1)
  reader.skip(4) // throttle_time_ms
  reader.array(() => {
    reader.skip(4)
    reader.string()
    reader.skip(4)
    reader.string()
    reader.skipTags()
  })
  reader.string() // cluster_id
  reader.skip(4) // controller_id
  const ids = new Map<string, string>()
  reader.array(() => {
    const errorCode = reader.int16()
    const name = reader.string()
    const id = reader.bytes(16).toString('hex')
    reader.skip(1) // is_internal
    reader.array(() => {
      reader.skip(2 + 4 + 4 + 4) // error_code, partition_index, leader_id, leader_epoch
      for (let list = 0; list < 3; list++) reader.array(() => reader.skip(4)) // replicas, in sync, offline
      reader.skipTags()
    })
    reader.skip(4) // topic_authorized_operations
    reader.skipTags()
    if (errorCode === 0) ids.set(name, id)
  })
  return ids
}

class Reader {
  private at = 0
  private readonly from: Buffer

  constructor(from: Buffer) {
    this.from = from
  }

  skip(bytes: number): void {
    this.at += bytes
  }

  int16(): number {
    this.at += 2
    return this.from.readInt16BE(this.at - 2)
  }

  bytes(length: number): Buffer {
    this.at += length
    return this.from.subarray(this.at - length, this.at)
  }

  /** Null reads as the empty string. */
  string(): string {
    return this.bytes(Math.max(0, this.varint() - 1)).toString()
  }

  array(readElement: () => void): void {
    const count = this.varint() - 1
    for (let index = 0; index < count; index++) readElement()
  }

  skipTags(): void {
    const count = this.varint()
    for (let index = 0; index < count; index++) {
      this.varint()
      this.skip(this.varint())
    }
  }

  private varint(): number {
    let value = 0
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.from.readUInt8(this.at++)
      value |= (byte & 127) << shift
      if (byte < 128) break
    }
    return value >>> 0
  }
}
