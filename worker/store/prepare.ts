import type { DeviceEventRecord } from '#schema/device-event.ts'
import { refusalOf } from './check-event.ts'
import type { LoggedDeadLetter, Message, ParkedMessage } from './message.ts'
import { isKeyed } from './message-keys.ts'
import { progressOf } from './offsets.ts'
import type { Partitions } from './partitions.ts'
import type { StreamSlice } from './stream-slice.ts'
import type { Batch } from './transaction.ts'

export interface Prepared extends Batch {
  /** Arrival of the newest message; 0 when there is none. */
  readonly newestIngestTimeUs: number
}

/** Everything that can be said of a write without the database. */
export function prepare(slices: readonly StreamSlice[], retentionUs: number | undefined): Prepared {
  const { partitions, ofSlice } = progressOf(slices)
  const messages: Message[] = []
  const parked: ParkedMessage[] = []
  const deadLetters: LoggedDeadLetter[] = []
  const deviceEvents: DeviceEventRecord[] = []
  let newestIngestTimeUs = 0
  let isAnyKeyed = false
  let isAnyRaw = false
  for (let slice = 0; slice < slices.length; slice++) {
    for (const record of (slices[slice] as StreamSlice).records) {
      if ('deadLetter' in record) {
        deadLetters.push({ deadLetter: record.deadLetter, offset: record.offset, slice })
        continue
      }
      if ('deviceEvent' in record) {
        deviceEvents.push(record.deviceEvent)
        continue
      }
      const message = { event: record.event, offset: record.offset, slice }
      isAnyKeyed ||= isKeyed(record.event)
      isAnyRaw ||= record.event.raw !== undefined
      const refusal = refusalOf(record.event, retentionUs)
      if (refusal === undefined) {
        messages.push(message)
        if (record.event.ingestTimeUs > newestIngestTimeUs) newestIngestTimeUs = record.event.ingestTimeUs
      } else parked.push({ ...refusal, source: message })
    }
  }
  return { messages, parked, deadLetters, deviceEvents, partitions, ofSlice, newestIngestTimeUs, isAnyKeyed, isAnyRaw }
}

/** Instants whose partition is not known to exist, one a range would do. */
export function missingTimes(messages: readonly Message[], partitions: Partitions): Set<number> {
  const missing = new Set<number>()
  for (let index = 0; index < messages.length; index++) {
    const { readings } = (messages[index] as Message).event
    for (let at = 0; at < readings.length; at++) {
      const us = readings[at]?.eventTimeUs as number
      // To the day: no range is narrower.
      if (partitions.at(us) === undefined) missing.add(Math.floor(us / 86_400_000_000) * 86_400_000)
    }
  }
  return missing
}
