import type pg from 'pg'
import { BridgeError } from '#platform/errors.ts'
import { int4Array, int8Array, textArray } from './array-parameter.ts'
import type { StreamSlice } from './stream-slice.ts'

/** One partition in a write, and what its messages became. */
export interface PartitionProgress {
  readonly stream: string
  readonly partition: number
  readonly fromOffset: number
  nextOffset: number
  stored: number
  duplicate: number
  parked: number
  readings: number
  /** Dead letters of messages that were refused, which count in none of the above. */
  refused: number
  /** Records that it brings; other offsets on the way are skipped. */
  records: number
}

/** Joins slices of one partition. @returns the partitions, sorted as they are locked, and for each slice its partition */
export function progressOf(slices: readonly StreamSlice[]): {
  partitions: PartitionProgress[]
  ofSlice: PartitionProgress[]
} {
  const byKey = new Map<string, PartitionProgress>()
  const ofSlice: PartitionProgress[] = []
  for (const { stream, partition, fromOffset, nextOffset, records } of slices) {
    const key = `${partition} ${stream}`
    let progress = byKey.get(key)
    if (progress === undefined) {
      const counts = { stored: 0, duplicate: 0, parked: 0, readings: 0, refused: 0, records: 0 }
      progress = { stream, partition, fromOffset, nextOffset, ...counts }
      byKey.set(key, progress)
    } else if (progress.nextOffset !== fromOffset) {
      throw new TypeError(
        `slices of ${stream}/${partition} do not follow each other: ${progress.nextOffset}, ${fromOffset}`,
      )
    } else progress.nextOffset = nextOffset
    progress.records += records.length
    ofSlice.push(progress)
  }
  const partitions = [...byKey.values()].sort((a, b) =>
    a.stream < b.stream ? -1 : a.stream > b.stream ? 1 : a.partition - b.partition,
  )
  return { partitions, ofSlice }
}

/**
 * Locks the partitions' rows until the transaction ends: of two workers on one partition the second waits here, and then sees that the
 * offset has moved on. New rows are made for partitions that were never written.
 * @throws BridgeError BRIDGE_OFFSET_FENCED
 */
export async function lockOffsets(client: pg.ClientBase, partitions: readonly PartitionProgress[]): Promise<void> {
  const { rows } = await client.query<{ at: string; next_offset: string }>({
    name: 'lock-offsets',
    text: `select k.at, o.next_offset
      from unnest($1::text[], $2::int4[]) with ordinality as k(stream, partition, at)
      join ingest_offset o on o.stream = k.stream and o.partition = k.partition
      order by o.stream collate "C", o.partition for update of o`,
    values: [
      textArray(partitions.map(({ stream }) => stream)),
      int4Array(partitions.map(({ partition }) => partition)),
    ],
  })
  const found = new Map(rows.map(({ at, next_offset }) => [partitions[Number(at) - 1], Number(next_offset)]))
  const fresh: PartitionProgress[] = []
  for (const progress of partitions) {
    const actual = found.get(progress)
    if (actual === undefined) fresh.push(progress)
    else if (actual !== progress.fromOffset) throw fenced(progress, actual)
  }
  if (fresh.length > 0) await insertOffsets(client, fresh)
}

async function insertOffsets(client: pg.ClientBase, partitions: readonly PartitionProgress[]): Promise<void> {
  const { rowCount } = await client.query(
    `insert into ingest_offset (stream, partition, next_offset)
      select * from unnest($1::text[], $2::int4[], $3::int8[]) on conflict do nothing`,
    [
      textArray(partitions.map(({ stream }) => stream)),
      int4Array(partitions.map(({ partition }) => partition)),
      int8Array(partitions.map(({ fromOffset }) => fromOffset)),
    ],
  )
  if (rowCount !== partitions.length) throw fenced(partitions[0] as PartitionProgress, undefined)
}

/**
 * Moves the locked rows on and adds the counts. Where a program that does not know `skipped` has moved them meanwhile, or nobody yet, what is not
 * counted up to here is skipped.
 */
export async function moveOffsets(client: pg.ClientBase, partitions: readonly PartitionProgress[]): Promise<void> {
  const numbers = (read: (progress: PartitionProgress) => number) => int8Array(partitions.map(read))
  const { rowCount } = await client.query({
    name: 'move-offsets',
    text: `update ingest_offset o set
        next_offset = k.next_offset, stored = o.stored + k.stored, duplicate = o.duplicate + k.duplicate,
        parked = o.parked + k.parked, readings = o.readings + k.readings, updated_at = clock_timestamp(),
        refused = o.refused + k.refused, counted_offset = k.next_offset, skipped = k.skipped + case
          when o.counted_offset = o.next_offset then o.skipped
          else o.next_offset - o.stored - o.duplicate - o.parked - o.refused end
      from unnest($1::text[], $2::int4[], $3::int8[], $4::int8[], $5::int8[], $6::int8[], $7::int8[], $8::int8[], $9::int8[], $10::int8[])
        as k(stream, partition, expected, next_offset, stored, duplicate, parked, readings, refused, skipped)
      where o.stream = k.stream and o.partition = k.partition and o.next_offset = k.expected`,
    values: [
      textArray(partitions.map(({ stream }) => stream)),
      int4Array(partitions.map(({ partition }) => partition)),
      numbers(({ fromOffset }) => fromOffset),
      numbers(({ nextOffset }) => nextOffset),
      numbers(({ stored }) => stored),
      numbers(({ duplicate }) => duplicate),
      numbers(({ parked }) => parked),
      numbers(({ readings }) => readings),
      numbers(({ refused }) => refused),
      numbers(({ fromOffset, nextOffset, records }) => nextOffset - fromOffset - records),
    ],
  })
  if (rowCount !== partitions.length) throw fenced(partitions[0] as PartitionProgress, undefined)
}

export async function readOffsets(
  client: Pick<pg.Pool, 'query'>,
  stream: string,
  partitions: readonly number[],
): Promise<Map<number, number>> {
  const { rows } = await client.query<{ partition: number; next_offset: string }>(
    'select partition, next_offset from ingest_offset where stream = $1 and partition = any($2::int4[])',
    [stream, int4Array(partitions)],
  )
  return new Map(rows.map(({ partition, next_offset }) => [partition, Number(next_offset)]))
}

function fenced({ stream, partition, fromOffset }: PartitionProgress, actual: number | undefined): BridgeError {
  const found = actual === undefined ? 'another writer made its row first' : `the database is at ${actual}`
  return new BridgeError(
    'BRIDGE_OFFSET_FENCED',
    `${stream}/${partition} was to be written from offset ${fromOffset}, but ${found}: another writer has it, or the database lost commits`,
    { details: { stream, partition, expected: fromOffset, ...(actual === undefined ? {} : { actual }) } },
  )
}
