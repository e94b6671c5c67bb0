import type { Admin } from 'kafkajs'
import type { Config } from '#platform/config-schema.ts'
import { createKafka } from '#platform/kafka-client.ts'
import { topicRetentionMs } from '#platform/kafka-retention.ts'
import type { Log } from '#platform/log.ts'

export interface Bounds {
  readonly low: number
  readonly high: number
}

const attempts = { initialRetryTime: 100, maxRetryTime: 500, retries: 3 }

/** Asks Kafka how far its partitions reach. A client that has failed once is not asked again: kafkajs' admin does not always come back. */
export class TopicAdmin {
  private readonly kafka: Config['kafka']
  private readonly log: Log
  private admin: Promise<Admin> | undefined

  constructor(kafka: Config['kafka'], log: Log) {
    this.kafka = kafka
    this.log = log
  }

  /**
   * @param partitions those that the answer must have: a client that does not know one of them is older than it, and is replaced
   * @returns for each partition the first offset in the log and the one after the last
   */
  async bounds(topic: string, partitions: readonly number[] = []): Promise<ReadonlyMap<number, Bounds>> {
    const known = await this.#bounds(topic)
    if (partitions.every((partition) => known.has(partition))) return known
    await this.close()
    return await this.#bounds(topic)
  }

  /** @returns for each partition the offset of the first record that is not older, or the one after the last */
  async offsetsAt(topic: string, ms: number): Promise<ReadonlyMap<number, number>> {
    const offsets = await this.ask((admin) => admin.fetchTopicOffsetsByTimestamp(topic, ms))
    return new Map(offsets.map(({ partition, offset }) => [partition, Number(offset)]))
  }

  /** @returns undefined for ever */
  retentionMs(topic: string): Promise<number | undefined> {
    return this.ask((admin) => topicRetentionMs(admin, topic))
  }

  async close(): Promise<void> {
    const { admin } = this
    this.admin = undefined
    if (admin !== undefined) await disconnect(admin)
  }

  async #bounds(topic: string): Promise<ReadonlyMap<number, Bounds>> {
    const offsets = await this.ask((admin) => admin.fetchTopicOffsets(topic))
    return new Map(offsets.map(({ partition, low, high }) => [partition, { low: Number(low), high: Number(high) }]))
  }

  private async ask<Answer>(question: (admin: Admin) => Promise<Answer>): Promise<Answer> {
    this.admin ??= this.connect()
    const { admin } = this
    try {
      return await question(await admin)
    } catch (error) {
      if (this.admin === admin) this.admin = undefined
      void disconnect(admin)
      throw error
    }
  }

  private async connect(): Promise<Admin> {
    const admin = createKafka(this.kafka.brokers ?? [], 'fleetbridge-worker-lag', this.log, attempts).admin()
    await admin.connect()
    return admin
  }
}

async function disconnect(admin: Promise<Admin>): Promise<void> {
  await admin.then((connected) => connected.disconnect()).catch(() => undefined)
}
