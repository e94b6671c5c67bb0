import { encodeProduce } from '#platform/kafka-produce-encoding.ts'
import { exchange, requestBytes } from '#platform/kafka-wire.ts'
import { recordKey } from '#schema/kafka-topics.ts'
import type { TelemetryEvent } from '#schema/telemetry-event.ts'
import { encodeTelemetry } from '#schema/telemetry-record.ts'
import { readTopic } from './topics.ts'

interface Forgery {
  /** 1: as a newer incarnation of the producer. */
  readonly epochAhead: number
  readonly sequence: number
  /** How often the event is written. */
  readonly records: number
}

/** Writes under the id of the idempotent producer that wrote this device's last record, so that the broker thinks less of that one. */
export async function produceAs(
  brokers: string,
  topic: string,
  event: TelemetryEvent,
  forgery: Forgery,
): Promise<void> {
  const { key, value, headers, timestampMs } = encodeTelemetry(event)
  const records = await readTopic(brokers, topic)
  const last = records.findLast((record) => record.key?.toString() === recordKey(event.tenant, event.device))
  if (last === undefined) throw new Error('the device has no record yet')
  const { producerId, producerEpoch } = (
    last as unknown as { batchContext: { producerId: string; producerEpoch: number } }
  ).batchContext
  const message = { key, value, headers, timestamp: String(timestampMs) }
  const messages = Array.from({ length: forgery.records }, () => message)
  const partitions = [{ partition: last.partition, firstSequence: forgery.sequence, messages }]
  const body = encodeProduce({
    acks: -1,
    timeout: 5000,
    producerId,
    producerEpoch: producerEpoch + forgery.epochAhead,
    topicData: [{ topic, partitions }],
  })
  const response = await exchange(brokers.split(',')[0] as string, requestBytes(0, 7, body), 5000)
  const errorCode = response.readInt16BE(4 + 2 + topic.length + 4 + 4)
  if (errorCode !== 0) throw new Error(`the broker refused the forgery with error ${errorCode}`)
}
