import type { KafkaMessage } from 'kafkajs'
import { uuidV7 } from '#platform/uuid-v7.ts'
import type { DeadLetter } from '#schema/dead-letter.ts'
import { decodeDeadLetter, malformedRecord } from '#schema/dead-letter-record.ts'
import { decodeDeviceEvent } from '#schema/device-event-record.ts'
import { decodeTelemetry, newerRecord } from '#schema/telemetry-record.ts'
import type { StreamRecord, StreamSlice } from '../store/stream-slice.ts'

/** A partition of one of our topics. */
export interface PartitionName {
  readonly topic: string
  readonly partition: number
  /** Its topic's name in ingest_offset. */
  readonly stream: string
  readonly holds: 'telemetry' | 'dead-letters' | 'device-events'
}

/**
 * Decodes records into a slice that begins where the partition stands. Whatever a record holds, it becomes an event or a dead letter with its
 * bytes: none is skipped and none stops the others. Only device events, which nobody was promised, are left out when they cannot be read.
 * @param onUnread hears of these
 * @param fromOffset records before it were read already; there may be none between it and the first one (markers of transactions)
 */
export function decodeSlice(
  name: PartitionName,
  messages: readonly KafkaMessage[],
  fromOffset: number,
  onUnread: (why: string) => void = () => {},
): StreamSlice {
  const records: StreamRecord[] = []
  let nextOffset = fromOffset
  for (const message of messages) {
    const offset = Number(message.offset)
    if (offset < fromOffset) continue
    nextOffset = offset + 1
    if (name.holds === 'device-events') {
      const deviceEvent = decodeDeviceEvent(message.key, message.value)
      if (typeof deviceEvent === 'string') onUnread(deviceEvent)
      else records.push({ offset, deviceEvent })
    } else
      records.push(
        name.holds === 'telemetry' ? telemetryOf(name, offset, message) : deadLetterOf(name, offset, message),
      )
  }
  return { stream: name.stream, partition: name.partition, fromOffset, nextOffset, records }
}

function telemetryOf(name: PartitionName, offset: number, message: KafkaMessage): StreamRecord {
  const event = decodeTelemetry(message.key, message.value)
  if (typeof event !== 'string') return { offset, event }
  return { offset, deadLetter: parked(name, offset, message, event) }
}

function deadLetterOf(name: PartitionName, offset: number, message: KafkaMessage): StreamRecord {
  const letter = decodeDeadLetter(message.headers ?? {}, message.value)
  return { offset, deadLetter: typeof letter === 'string' ? parked(name, offset, message, letter) : letter }
}

function parked({ topic, partition }: PartitionName, offset: number, message: KafkaMessage, why: string): DeadLetter {
  const { key, value, timestamp } = message
  return malformedRecord({
    id: uuidV7(),
    key,
    value,
    timestampMs: Math.max(0, Number(timestamp)) || Date.now(),
    where: `${topic} partition ${partition} offset ${offset}`,
    why,
    code: why === newerRecord ? 'unsupported' : 'malformed',
  })
}
