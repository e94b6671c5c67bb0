import type { Scalar } from '../scenario/models.ts'
import type { JournaledDevice, JournaledMessage } from './read-journal.ts'

/** A row of `reading`. */
export interface StoredRow {
  readonly metric: string
  /** Microseconds since the epoch. */
  readonly eventTimeUs: number
  readonly ingestTimeUs: number
  readonly value: Scalar
  /** 0: the device's time; 1: the arrival; 2: the arrival, since the device's was ahead. */
  readonly clock: number
  readonly deviceTimeUs: number | null
}

/** What an audit says, in messages; `rows` and `phantom` are rows. */
export interface AuditCounts {
  /** Messages that were sent at least once. */
  sent: number
  /** Messages with at least one acknowledgement. */
  acked: number
  rows: number
  /** Copies that were acknowledged and made no row of their own. */
  duplicates: number
  /** Messages that cannot be decoded, and are there as dead letters. */
  dead: number
  /** Acknowledged, and a row of theirs (or the dead letter) is not there. */
  missing: number
  /** Rows that answer to no message that was sent: another value, another time, another number. */
  phantom: number
  /** Messages whose rows are there more than once. */
  doubled: number
  /** Messages that came after one that was sent later, and neither was ever sent again. */
  reordered: number
}

export function emptyAudit(): AuditCounts {
  return { sent: 0, acked: 0, rows: 0, duplicates: 0, dead: 0, missing: 0, phantom: 0, doubled: 0, reordered: 0 }
}

/**
 * Compares what one device sent with what is there.
 * @param deadLetters SHA-256 of the bytes of its dead letters, and how many there are of each
 * @param example told of each fault, for a person
 */
export function auditDevice(
  into: AuditCounts,
  device: JournaledDevice,
  rows: readonly StoredRow[],
  deadLetters: ReadonlyMap<string, number>,
  example: (text: string) => void,
): void {
  const numberMetric = device.metrics[0]
  const byNumber = new Map<number, JournaledMessage>()
  for (const message of device.messages) byNumber.set(message.number, message)
  const messageAt = new Map<number, JournaledMessage>()
  for (const message of device.messages) if (message.timeUs !== 0) messageAt.set(message.timeUs, message)
  /** For each message how many rows of each metric. */
  const found = new Map<JournaledMessage, Uint16Array>()
  const ingested = new Map<JournaledMessage, number>()
  into.rows += rows.length

  const take = (message: JournaledMessage, index: number) => {
    let counts = found.get(message)
    if (counts === undefined) {
      counts = new Uint16Array(device.metrics.length)
      found.set(message, counts)
    }
    counts[index] = (counts[index] as number) + 1
  }
  const phantom = (row: StoredRow, why: string) => {
    into.phantom++
    example(`${device.id}: ${row.metric} ${JSON.stringify(row.value)} at ${isoOf(row.eventTimeUs)}: ${why}`)
  }

  // The number first: its time says to which message the others of that time belong.
  for (const row of rows) {
    if (row.metric !== numberMetric) continue
    const message = typeof row.value === 'number' ? byNumber.get(row.value) : undefined
    if (message?.values === undefined) phantom(row, 'no message has this number')
    else if (!timeFits(row, message)) phantom(row, `the message has the time ${isoOf(message.timeUs)}`)
    else {
      take(message, 0)
      const known = ingested.get(message)
      ingested.set(message, Math.min(known ?? row.ingestTimeUs, row.ingestTimeUs))
      messageAt.set(row.eventTimeUs, message)
    }
  }
  for (const row of rows) {
    if (row.metric === numberMetric) continue
    const index = device.metrics.indexOf(row.metric)
    const message = messageAt.get(row.eventTimeUs)
    if (index < 0) phantom(row, 'the device has no such metric')
    else if (message?.values === undefined) phantom(row, 'no message has this time')
    else if (message.values[index] !== row.value)
      phantom(row, `it was sent as ${JSON.stringify(message.values[index])}`)
    else take(message, index)
  }

  for (const message of device.messages) countMessage(into, device, message, found.get(message), deadLetters, example)
  into.reordered += reorderedOf(device, ingested, example)
}

function countMessage(
  into: AuditCounts,
  device: JournaledDevice,
  message: JournaledMessage,
  counts: Uint16Array | undefined,
  deadLetters: ReadonlyMap<string, number>,
  example: (text: string) => void,
): void {
  into.sent++
  if (message.accepted > 0) into.acked++
  if (message.values === undefined) {
    const letters = deadLetters.get(message.sha256 as string) ?? 0
    if (letters > 0) into.dead++
    else if (message.accepted + message.parked > 0) {
      into.missing++
      example(`${device.id}: message ${message.number} cannot be decoded, was answered, and is no dead letter`)
    }
    return
  }
  const least = counts === undefined ? 0 : Math.min(...counts)
  const most = counts === undefined ? 0 : Math.max(...counts)
  if (most > 1) {
    into.doubled++
    example(`${device.id}: message ${message.number} is there ${most} times`)
  }
  if (message.accepted > 0 && least === 0) {
    into.missing++
    example(
      `${device.id}: message ${message.number} was acknowledged, and ${most === 0 ? 'nothing of it is' : 'not all of it is'} there`,
    )
  }
  if (least > 0) into.duplicates += Math.max(0, message.accepted - most)
}

/** A device's messages arrive in the order in which they were sent first, but for those that were sent again. */
function reorderedOf(
  device: JournaledDevice,
  ingested: ReadonlyMap<JournaledMessage, number>,
  example: (text: string) => void,
): number {
  let reordered = 0
  let newestUs = 0
  for (const message of device.messages) {
    const us = ingested.get(message)
    if (us === undefined || message.resent || message.copies > 1) continue
    if (us < newestUs) {
      reordered++
      example(`${device.id}: message ${message.number} came before one that was sent earlier`)
    } else newestUs = us
  }
  return reordered
}

function timeFits({ clock, eventTimeUs, deviceTimeUs }: StoredRow, { timeUs }: JournaledMessage): boolean {
  if (clock === 0) return eventTimeUs === timeUs
  return clock === 1 ? timeUs === 0 : deviceTimeUs === timeUs
}

function isoOf(us: number): string {
  return us === 0 ? 'none' : `${new Date(us / 1000).toISOString().slice(0, -1)}${String(us % 1000).padStart(3, '0')}Z`
}
