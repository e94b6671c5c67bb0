import { BridgeError } from '#platform/errors.ts'
import type { Log } from '#platform/log.ts'
import type { DeadLetter } from '#schema/dead-letter.ts'
import type { TelemetryEvent } from '#schema/telemetry-event.ts'
import type { Store } from './store.ts'
import type { StreamRecord, StreamSlice } from './stream-slice.ts'

/**
 * Makes a micro-batch rows without an event log between. Resolves when it is committed; batches keep their order.
 * It keeps trying while Postgres is away: the deadline is the caller's.
 * @throws BridgeError BRIDGE_OFFSET_FENCED when another writer took the database over, for good;
 *   BRIDGE_EVENT_LOG_UNAVAILABLE when the store was closed
 */
export type WriteDirect = (events: readonly TelemetryEvent[], deadLetters: readonly DeadLetter[]) => Promise<void>

const stream = 'direct'
const partition = 0
/** Records of one transaction; what arrives while it runs goes into the next one. */
const maxRecords = 5000
/**
 * Each writer begins this far past the last one. After an unknown commit the offset alone tells whether it was ours: no other writer's
 * offset can be the one that we would have left, since none of our transactions is that large.
 */
const claimStep = 1_000_000
const firstPauseMs = 50
const longestPauseMs = 1000
const logEveryMs = 10_000

interface Waiting {
  readonly events: readonly TelemetryEvent[]
  readonly deadLetters: readonly DeadLetter[]
  resolve(): void
  reject(error: unknown): void
}

/** Takes over the stream `direct` of this database: a writer that had it is fenced. Waits until the database is there. */
export async function createDirectWriter(store: Store, log: Log = store.log): Promise<WriteDirect> {
  let offset = await claim(store)
  let queue: Waiting[] = []
  let running = false
  let takenOver: BridgeError | undefined

  const run = async () => {
    running = true
    while (queue.length > 0) {
      const group = nextGroup(queue)
      queue = queue.slice(group.length)
      try {
        offset = await writeGroup(store, log, offset, group)
        for (const { resolve } of group) resolve()
      } catch (error) {
        if (error instanceof BridgeError && error.code === 'BRIDGE_OFFSET_FENCED') takenOver = error
        for (const { reject } of group) reject(error)
        if (takenOver === undefined) continue
        log.error({ err: takenOver }, 'another gateway writes to this database: nothing more is taken here')
        for (const { reject } of queue.splice(0)) reject(takenOver)
      }
    }
    running = false
  }

  return (events, deadLetters) => {
    if (takenOver !== undefined) return Promise.reject(takenOver)
    if (events.length + deadLetters.length === 0) return Promise.resolve()
    return new Promise((resolve, reject) => {
      queue.push({ events, deadLetters, resolve, reject })
      if (!running) void run()
    })
  }
}

async function claim(store: Store): Promise<number> {
  for (;;) {
    const fromOffset = (await store.offsets(stream, [partition])).get(partition) ?? 0
    const nextOffset = fromOffset + claimStep
    try {
      await store.write([{ stream, partition, fromOffset, nextOffset, records: [] }])
      return nextOffset
    } catch (error) {
      // Another one claimed at the same moment; the last to do so has it.
      if (!(error instanceof BridgeError) || error.code !== 'BRIDGE_OFFSET_FENCED') throw error
    }
  }
}

/** Undefined when the database went away over it. */
async function claimed(store: Store): Promise<number | undefined> {
  try {
    return await claim(store)
  } catch {
    return undefined
  }
}

/** At least one, whatever its size. */
function nextGroup(queue: readonly Waiting[]): Waiting[] {
  let records = 0
  let length = 0
  for (const { events, deadLetters } of queue) {
    records += events.length + deadLetters.length
    if (length > 0 && records > maxRecords) break
    length++
  }
  return queue.slice(0, length)
}

/** @returns the next offset */
async function writeGroup(store: Store, log: Log, fromOffset: number, group: readonly Waiting[]): Promise<number> {
  let slice = sliceOf(fromOffset, group)
  let loggedAt = -Infinity
  for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(longestPauseMs, pauseMs * 2)) {
    try {
      await store.write([slice])
      return slice.nextOffset
    } catch (error) {
      if (isClosed(error)) throw error
      if (performance.now() - loggedAt > logEveryMs) {
        loggedAt = performance.now()
        log.warn({ err: error }, 'Postgres did not take a batch; trying again')
      }
    }
    const found = await findOffset(store)
    if (found === slice.nextOffset) return found
    if (found !== undefined && found > slice.fromOffset) throw takenOverBy(slice, found)
    if (found !== undefined && found < slice.fromOffset) {
      // A standby without the last commits took over. What they held was acknowledged and is gone; what is in hand is not.
      log.error({ found, expected: slice.fromOffset }, 'the database lost commits that were acknowledged')
      slice = sliceOf((await claimed(store)) ?? slice.fromOffset, group)
    } else await new Promise((resolve) => setTimeout(resolve, pauseMs))
  }
}

function sliceOf(fromOffset: number, group: readonly Waiting[]): StreamSlice {
  const records: StreamRecord[] = []
  let offset = fromOffset
  for (const { events, deadLetters } of group) {
    for (const event of events) records.push({ offset: offset++, event })
    for (const deadLetter of deadLetters) records.push({ offset: offset++, deadLetter })
  }
  return { stream, partition, fromOffset, nextOffset: offset, records }
}

/** Undefined while the database does not answer. */
async function findOffset(store: Store): Promise<number | undefined> {
  try {
    return (await store.offsets(stream, [partition])).get(partition) ?? 0
  } catch {
    return undefined
  }
}

function isClosed(error: unknown): boolean {
  return error instanceof BridgeError && error.code === 'BRIDGE_EVENT_LOG_UNAVAILABLE'
}

function takenOverBy({ fromOffset }: StreamSlice, found: number): BridgeError {
  return new BridgeError(
    'BRIDGE_OFFSET_FENCED',
    `another gateway took this database over (its offset went from ${fromOffset} to ${found}): only one may write to it without Kafka. Stop one of them, or give both KAFKA_BROKERS`,
    { details: { expected: fromOffset, actual: found } },
  )
}
