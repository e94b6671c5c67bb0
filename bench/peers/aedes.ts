import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { createKafka } from '#platform/kafka-client.ts'
import { silentLog } from '#platform/log.ts'
import type { KafkaServer } from '#test/servers/kafka.ts'

export interface AedesPeer extends AsyncDisposable {
  readonly port: number
  readonly pid: number
  /** Records that Kafka has of it; 0 for an Aedes with nothing behind it. */
  records(): Promise<number>
}

/** Stock Aedes in a process of its own: see aedes-kafkajs.ts. */
export async function startAedes(
  promise: 'idempotent' | 'plain' | 'none',
  kafka: KafkaServer,
  partitions: number,
): Promise<AedesPeer> {
  const topic = `bench-peer-${promise}`
  const admin = createKafka([kafka.brokers], 'bench', silentLog).admin()
  await admin.connect()
  await admin.createTopics({ topics: [{ topic, numPartitions: partitions, replicationFactor: 1 }] })
  const script = fileURLToPath(new URL('./aedes-kafkajs.ts', import.meta.url))
  // Without its warnings: kafkajs sets timers into the past on this Node.
  const child = spawn(process.execPath, ['--no-warnings', script, kafka.brokers, topic, promise], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [printed] = (await once(child.stdout, 'data')) as [Buffer]
  return {
    port: Number(printed.toString()),
    pid: child.pid as number,
    async records() {
      return (await admin.fetchTopicOffsets(topic)).reduce((sum, { offset }) => sum + Number(offset), 0)
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL')
      await admin.disconnect()
    },
  }
}
