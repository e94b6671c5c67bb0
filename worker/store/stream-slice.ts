import type { DeadLetter } from '#schema/dead-letter.ts'
import type { DeviceEventRecord } from '#schema/device-event.ts'
import type { TelemetryEvent } from '#schema/telemetry-event.ts'

export type StreamRecord =
  | { readonly offset: number; readonly event: TelemetryEvent }
  | { readonly offset: number; readonly deadLetter: DeadLetter }
  | { readonly offset: number; readonly deviceEvent: DeviceEventRecord }

/**
 * Consecutive records of one partition of the event log. Offsets ascend; there may be gaps (compaction, transaction markers).
 * Several slices of one partition in one write follow each other: each starts where the one before it ends.
 */
export interface StreamSlice {
  /** Names the cluster and the topic's generation, so that a topic made anew is another stream. */
  readonly stream: string
  readonly partition: number
  /** What `ingest_offset.next_offset` must be; a partition that was never written accepts any. */
  readonly fromOffset: number
  /** What it becomes. */
  readonly nextOffset: number
  readonly records: readonly StreamRecord[]
}

/** What became of the messages of a write, and how many rows of `reading` they made. */
export interface StoreOutcome {
  readonly stored: number
  readonly duplicate: number
  readonly parked: number
  readonly readings: number
  /** New device events; absent when there were none to write. */
  readonly deviceEvents?: number
}
