import type pg from 'pg'
import type { Reading } from '#schema/telemetry-event.ts'
import { int4Array, int8Array, textArray, timestamptzArray } from './array-parameter.ts'
import type { PartitionProgress } from './offsets.ts'

const minuteUs = 60_000_000

/** What messages of one partition that arrived in one minute became. */
export interface MinuteCount {
  readonly progress: PartitionProgress
  readonly minuteUs: number
  stored: number
  duplicate: number
  parked: number
  refused: number
  letters: number
  readings: number
  /** Of new rows, in microseconds; their readings lie between. */
  fromEventUs: number
  toEventUs: number
}

/** Counts of one batch by partition and minute of arrival; mostly one row a partition, so the last one is looked at first. */
export class MinuteCounts {
  readonly #rows = new Map<PartitionProgress, Map<number, MinuteCount>>()
  #last: MinuteCount | undefined

  at(progress: PartitionProgress, ingestTimeUs: number): MinuteCount {
    const last = this.#last
    if (last?.progress === progress && ingestTimeUs >= last.minuteUs && ingestTimeUs < last.minuteUs + minuteUs)
      return last
    const minute = Math.floor(ingestTimeUs / minuteUs) * minuteUs
    let minutes = this.#rows.get(progress)
    if (minutes === undefined) {
      minutes = new Map()
      this.#rows.set(progress, minutes)
    }
    let row = minutes.get(minute)
    if (row === undefined) {
      row = {
        progress,
        minuteUs: minute,
        stored: 0,
        duplicate: 0,
        parked: 0,
        refused: 0,
        letters: 0,
        readings: 0,
        fromEventUs: Number.POSITIVE_INFINITY,
        toEventUs: Number.NEGATIVE_INFINITY,
      }
      minutes.set(minute, row)
    }
    this.#last = row
    return row
  }

  /** Adds to the rows of the database, in the transaction of what is counted; the partition's row of `ingest_offset` is ours until its end. */
  send(client: pg.ClientBase): Promise<unknown> {
    const rows = [...this.#rows.values()].flatMap((minutes) => [...minutes.values()])
    if (rows.length === 0) return Promise.resolve()
    const numbers = (read: (row: MinuteCount) => number) => int8Array(rows.map(read))
    // Without a row of reading no range: the greatest and the least that there are do not change the other's.
    const times = (read: (row: MinuteCount) => number) =>
      timestamptzArray(rows.map((row) => (row.readings === 0 ? 0 : read(row))))
    return client.query({
      name: 'count-minutes',
      text: `insert into ingest_minute as m
          (stream, partition, minute, stored, duplicate, parked, refused, letters, readings, from_event_time, to_event_time)
        select stream, partition, minute, stored, duplicate, parked, refused, letters, readings,
          case when readings > 0 then from_event_time end, case when readings > 0 then to_event_time end
        from unnest($1::text[], $2::int4[], $3::timestamptz[], $4::int8[], $5::int8[], $6::int8[], $7::int8[], $8::int8[], $9::int8[],
          $10::timestamptz[], $11::timestamptz[])
          as k(stream, partition, minute, stored, duplicate, parked, refused, letters, readings, from_event_time, to_event_time)
        on conflict (stream, partition, minute) do update set
          stored = m.stored + excluded.stored, duplicate = m.duplicate + excluded.duplicate, parked = m.parked + excluded.parked,
          refused = m.refused + excluded.refused, letters = m.letters + excluded.letters, readings = m.readings + excluded.readings,
          from_event_time = least(m.from_event_time, excluded.from_event_time),
          to_event_time = greatest(m.to_event_time, excluded.to_event_time)`,
      values: [
        textArray(rows.map(({ progress }) => progress.stream)),
        int4Array(rows.map(({ progress }) => progress.partition)),
        timestamptzArray(rows.map((row) => row.minuteUs)),
        numbers((row) => row.stored),
        numbers((row) => row.duplicate),
        numbers((row) => row.parked),
        numbers((row) => row.refused),
        numbers((row) => row.letters),
        numbers((row) => row.readings),
        times((row) => row.fromEventUs),
        times((row) => row.toEventUs),
      ],
    })
  }
}

/** A message that made new rows of `reading`. */
export function countRows(count: MinuteCount, readings: readonly Reading[], fresh: number): void {
  count.stored++
  count.readings += fresh
  for (let index = 0; index < readings.length; index++) {
    const { eventTimeUs } = readings[index] as Reading
    if (eventTimeUs < count.fromEventUs) count.fromEventUs = eventTimeUs
    if (eventTimeUs > count.toEventUs) count.toEventUs = eventTimeUs
  }
}
