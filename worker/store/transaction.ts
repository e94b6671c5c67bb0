import type pg from 'pg'
import type { DeviceEventRecord } from '#schema/device-event.ts'
import type { Reading, TelemetryEvent } from '#schema/telemetry-event.ts'
import { type EpochRead, type RollupMarks, sendMarks } from '../rollup/marks.ts'
import { type DeadLetterRow, deadLetterOf, insertDeadLetters, storableTime } from './dead-letters.ts'
import { type DeviceEventTools, writeDeviceEvents } from './device-events.ts'
import type { LoggedDeadLetter, Message, ParkedMessage, Refusal } from './message.ts'
import { MessageKeys } from './message-keys.ts'
import { countRows, MinuteCounts } from './minute-counts.ts'
import { LearntNames, type NameCache } from './names.ts'
import { lockOffsets, moveOffsets, type PartitionProgress } from './offsets.ts'
import type { Partitions } from './partitions.ts'
import { keepRaw } from './raw-messages.ts'
import { maxOrdinals, ReadingPlan, tooManyOrdinals } from './reading-plan.ts'
import { readExisting, sendFreeReadings, sendLatest, sendReadings } from './readings.ts'
import { markReplayed, type ReplayedMessage } from './replays.ts'
import { type ResolvedNames, resolveCached, resolveNames } from './resolve-names.ts'
import { isAbortedTransaction, isDanglingName, isMissingPartition, isRefusedRow } from './sql-state.ts'
import type { StoreOutcome } from './stream-slice.ts'

/** What a write brings, after everything that needs no database was looked at. */
export interface Batch {
  readonly messages: readonly Message[]
  /** Parked before the database was asked. */
  readonly parked: readonly ParkedMessage[]
  readonly deadLetters: readonly LoggedDeadLetter[]
  readonly deviceEvents: readonly DeviceEventRecord[]
  readonly partitions: readonly PartitionProgress[]
  /** The partition of each slice. */
  readonly ofSlice: readonly PartitionProgress[]
  /** Some of its messages have names of their own; the others cost nothing for it. */
  readonly isAnyKeyed: boolean
  /** Some bring their bytes, to be kept. */
  readonly isAnyRaw: boolean
}

export interface TransactionTools {
  readonly cache: NameCache
  readonly partitions: Partitions
  readonly deviceEvents: DeviceEventTools
  readonly marks: RollupMarks
}

/** What was written, as the marks of the rollups need it. */
interface Written {
  readonly epoch: EpochRead
  readonly plans: readonly ReadingPlan[]
}

/** Keys were taken between our look and our insert: the same again. */
class KeyTaken extends Error {}

/** Another transaction took keys between our look and our insert, again and again. */
export class TooManyConflicts extends Error {}

const maxConflicts = 20
const tooMany: Refusal = {
  code: 'too_many_ordinals',
  message: `a metric has ${maxOrdinals} different values at one instant already`,
}

/** What became of the batch's messages, by index: how many of their readings are new, or why they are parked. */
interface Fate {
  readonly fresh: Int32Array
  readonly parked: Map<number, Refusal>
}

/** Messages `from` to `to` (exclusive) of the batch. */
interface Part {
  readonly from: number
  readonly to: number
}

/**
 * One attempt at a batch as one transaction. Nothing remains of it unless it resolves.
 * @param careful look at the rows that are there before inserting, and part refused messages from their neighbours; otherwise the batch is
 *   taken to be new and good, which costs two round trips, and Postgres refuses it when it is not
 */
export async function runTransaction(
  client: pg.ClientBase,
  batch: Batch,
  tools: TransactionTools,
  careful: boolean,
): Promise<StoreOutcome> {
  const learnt = new LearntNames(tools.cache)
  const fate: Fate = { fresh: new Int32Array(batch.messages.length), parked: new Map() }
  const { epoch, plans } = await (careful ? writeCarefully : writeFast)(client, batch, tools, learnt, fate)
  const counts = new MinuteCounts()
  let outcome = await settle(client, batch, fate, counts)
  if (batch.deviceEvents.length > 0) {
    const deviceEvents = await writeDeviceEvents(client, batch.deviceEvents, tools.deviceEvents)
    outcome = { ...outcome, deviceEvents }
  }
  const marks = tools.marks.missing(epoch, plans)
  // Sent together: the offsets cannot have moved, since their rows are ours until the end.
  const [, , , committed] = await all([
    sendMarks(client, marks),
    counts.send(client),
    moveOffsets(client, batch.partitions),
    client.query('commit'),
  ])
  // Postgres answers COMMIT of a failed transaction with ROLLBACK, and no error.
  if (committed.command !== 'COMMIT') throw new Error(`COMMIT was answered with ${committed.command}`)
  learnt.keep()
  tools.marks.keep(marks)
  return outcome
}

async function writeFast(
  client: pg.ClientBase,
  batch: Batch,
  tools: TransactionTools,
  learnt: LearntNames,
  fate: Fate,
): Promise<Written> {
  const { messages, partitions, isAnyKeyed } = batch
  const begin = client.query('begin')
  const epoch = tools.marks.begin(client)
  const begun = [begin, epoch, lockOffsets(client, partitions)]
  let names = resolveCached(messages, learnt.cache)
  if (names === undefined) {
    await all(begun.splice(0))
    names = await resolveNames(client, messages, learnt)
  }
  // One round trip more, and only where somebody named a message.
  const keys = isAnyKeyed
    ? (await all([...begun.splice(0), MessageKeys.read(client, messages, names)])).at(-1)
    : undefined
  const plan = new ReadingPlan()
  addAll(plan, messages, 0, { names, keys: keys as MessageKeys | undefined }, fate)
  const writing = keys === undefined ? [] : [(keys as MessageKeys).write(client)]
  await all([...begun, ...writing, ...sendReadings(client, plan), ...sendLatest(client, plan)])
  for (const complete of writing) if (!(await complete)) throw new TooManyConflicts('a message key was taken meanwhile')
  return { epoch: await epoch, plans: [plan] }
}

async function writeCarefully(
  client: pg.ClientBase,
  batch: Batch,
  tools: TransactionTools,
  learnt: LearntNames,
  fate: Fate,
): Promise<Written> {
  const begin = client.query('begin')
  const [epoch] = await all([tools.marks.begin(client), begin, lockOffsets(client, batch.partitions)])
  const plans: ReadingPlan[] = []
  const parts: Part[] = batch.messages.length > 0 ? [{ from: 0, to: batch.messages.length }] : []
  let conflicts = 0
  for (let part = parts.pop(); part !== undefined; part = parts.pop()) {
    await client.query('savepoint part')
    const learntHere = new LearntNames(tools.cache, learnt)
    const fateHere: Fate = { fresh: fate.fresh, parked: new Map() }
    try {
      const messages = batch.messages.slice(part.from, part.to)
      plans.push(await writePart(client, messages, part.from, tools, learntHere, fateHere))
    } catch (error) {
      if (!(error instanceof KeyTaken) && !isPoison(error)) throw error
      await client.query('rollback to savepoint part')
      if (error instanceof KeyTaken) {
        if (++conflicts > maxConflicts) throw new TooManyConflicts('other writers keep taking the same keys')
        parts.push(part)
      } else if (part.to - part.from === 1) {
        fate.parked.set(part.from, refusedBy(error))
      } else {
        const middle = (part.from + part.to) >> 1
        // The first half comes off the stack first: log order.
        parts.push({ from: middle, to: part.to }, { from: part.from, to: middle })
      }
      continue
    }
    await client.query('release savepoint part')
    learntHere.mergeInto(learnt)
    for (const [index, refusal] of fateHere.parked) fate.parked.set(index, refusal)
  }
  return { epoch, plans }
}

/** @throws KeyTaken when another transaction took a key between the look and the insert */
async function writePart(
  client: pg.ClientBase,
  messages: readonly Message[],
  first: number,
  { partitions }: TransactionTools,
  learnt: LearntNames,
  fate: Fate,
): Promise<ReadingPlan> {
  const names = await resolveNames(client, messages, learnt)
  const keys = await MessageKeys.read(client, messages, names)
  const plan = new ReadingPlan()
  eachMessage(messages, names, (event, deviceId, at) => {
    for (let index = 0; index < event.readings.length; index++)
      plan.touch(deviceId, names.metricIds[at + index] as number, (event.readings[index] as Reading).eventTimeUs)
  })
  await readExisting(client, plan, partitions)
  addAll(plan, messages, first, { names, keys }, fate)
  const inserts = sendFreeReadings(client, plan)
  if (keys !== undefined) inserts.push(keys.write(client))
  await all([...inserts, ...sendLatest(client, plan)])
  for (const complete of inserts) if (!(await complete)) throw new KeyTaken('a key was taken meanwhile')
  return plan
}

/** @param first index in the batch of the first of these messages */
function addAll(
  plan: ReadingPlan,
  messages: readonly Message[],
  first: number,
  { names, keys }: { readonly names: ResolvedNames; readonly keys: MessageKeys | undefined },
  fate: Fate,
): void {
  for (const [index, refusal] of names.parked) fate.parked.set(first + index, refusal)
  eachMessage(messages, names, (event, deviceId, at, index) => {
    if (keys?.isDuplicate(index) === true) {
      fate.fresh[first + index] = 0
      return
    }
    const fresh = plan.add(event, deviceId, names.metricIds, at)
    if (fresh === tooManyOrdinals) {
      fate.parked.set(first + index, tooMany)
      return
    }
    fate.fresh[first + index] = fresh
    keys?.take(index)
  })
}

function eachMessage(
  messages: readonly Message[],
  { deviceIds, parked }: ResolvedNames,
  visit: (event: TelemetryEvent, deviceId: number, at: number, index: number) => void,
): void {
  let at = 0
  for (let index = 0; index < messages.length; index++) {
    if (parked.size > 0 && parked.has(index)) continue
    const { event } = messages[index] as Message
    visit(event, deviceIds[index] as number, at, index)
    at += event.readings.length
  }
}

/** A missing partition and a deleted device look like bad rows, but the store mends them. */
function isPoison(error: unknown): error is pg.DatabaseError {
  return isRefusedRow(error) && !isMissingPartition(error) && !isDanglingName(error)
}

function refusedBy(error: pg.DatabaseError): Refusal {
  return { code: 'row_refused', message: `Postgres: ${error.message.slice(0, 200)} (${error.code})` }
}

/** Writes the dead letters of the log and of the store, and counts every message of the batch into its partition. */
async function settle(client: pg.ClientBase, batch: Batch, fate: Fate, counts: MinuteCounts): Promise<StoreOutcome> {
  for (const progress of batch.partitions) {
    progress.stored = 0
    progress.duplicate = 0
    progress.parked = 0
    progress.readings = 0
    progress.refused = 0
  }
  for (let index = 0; index < batch.messages.length; index++) {
    if (fate.parked.size > 0 && fate.parked.has(index)) continue
    const { event, slice } = batch.messages[index] as Message
    const progress = batch.ofSlice[slice] as PartitionProgress
    const minute = counts.at(progress, event.ingestTimeUs)
    const fresh = fate.fresh[index] as number
    if (fresh === 0) {
      progress.duplicate++
      minute.duplicate++
    } else {
      progress.stored++
      progress.readings += fresh
      countRows(minute, event.readings, fresh)
    }
  }
  if (batch.isAnyRaw)
    await keepRaw(client, batch.messages, (index) => (fate.fresh[index] ?? 0) > 0 && !fate.parked.has(index))
  await settleDeadLetters(client, batch, fate, counts)
  const total = { stored: 0, duplicate: 0, parked: 0, readings: 0 }
  for (const { stored, duplicate, parked, readings } of batch.partitions) {
    total.stored += stored
    total.duplicate += duplicate
    total.parked += parked
    total.readings += readings
  }
  return total
}

async function settleDeadLetters(client: pg.ClientBase, batch: Batch, fate: Fate, counts: MinuteCounts): Promise<void> {
  const at = (slice: number) => batch.ofSlice[slice] as PartitionProgress
  const all: ParkedMessage[] = [...batch.parked]
  for (const [index, refusal] of fate.parked) all.push({ ...refusal, source: batch.messages[index] as Message })
  const marked = batch.isAnyKeyed ? await markReplayed(client, replayedOf(batch, fate, all)) : undefined
  // What was a dead letter already stays that one, with the newest reason.
  const parked = all.filter(({ source: { event, slice } }) => {
    if (event.replayOf === undefined || marked?.has(event.replayOf) !== true) return true
    at(slice).parked++
    counts.at(at(slice), storableTime(event.ingestTimeUs)).parked++
    return false
  })
  if (batch.deadLetters.length + parked.length === 0) return
  const rows: DeadLetterRow[] = [
    ...batch.deadLetters.map(({ deadLetter, offset, slice }) => ({ deadLetter, offset, progress: at(slice) })),
    ...parked.map((message) => ({
      deadLetter: deadLetterOf(message),
      offset: message.source.offset,
      progress: at(message.source.slice),
    })),
  ]
  const fresh = new Set(await insertDeadLetters(client, rows))
  // One that the log holds twice is a duplicate the second time.
  for (const row of rows) {
    const minute = counts.at(row.progress, storableTime(row.deadLetter.ingestTimeUs))
    const isNew = fresh.has(row)
    if (isNew) minute.letters++
    // Refused at the gateway, and counted there: accepted = stored + duplicate + parked holds without it.
    const result = row.deadLetter.acknowledged ? (isNew ? 'parked' : 'duplicate') : 'refused'
    row.progress[result]++
    minute[result]++
  }
}

function replayedOf(batch: Batch, fate: Fate, parked: readonly ParkedMessage[]): ReplayedMessage[] {
  const replayed: ReplayedMessage[] = []
  for (let index = 0; index < batch.messages.length; index++) {
    const { event } = batch.messages[index] as Message
    if (event.replayOf === undefined || fate.parked.has(index)) continue
    replayed.push({ deadLetterId: event.replayOf, outcome: fate.fresh[index] === 0 ? 'duplicate' : 'stored' })
  }
  for (const { source, code, message } of parked)
    if (source.event.replayOf !== undefined)
      replayed.push({ deadLetterId: source.event.replayOf, outcome: 'parked', code, message })
  return replayed
}

type Resolved<Promises extends readonly Promise<unknown>[]> = { [Index in keyof Promises]: Awaited<Promises[Index]> }

/**
 * Waits for all queries that were sent together, so that none is left without somebody to hear its error; throws the first error, but not the
 * echo of another: a query that one of them sends later finds the transaction aborted, and stands before the one that did it.
 */
async function all<const Promises extends readonly Promise<unknown>[]>(
  promises: Promises,
): Promise<Resolved<Promises>> {
  const settled = await Promise.allSettled(promises)
  const errors = settled.filter((outcome) => outcome.status === 'rejected').map(({ reason }) => reason as unknown)
  if (errors.length > 0) throw errors.find((error) => !isAbortedTransaction(error)) ?? errors[0]
  return settled.map((outcome) => (outcome as PromiseFulfilledResult<unknown>).value) as Resolved<Promises>
}
