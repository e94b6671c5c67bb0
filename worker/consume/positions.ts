import type { BridgeError } from '#platform/errors.ts'
import type { PartitionName } from './decode-slice.ts'

/** Where an assigned partition stands. */
export interface Position extends PartitionName {
  /** Offset of the next record to be read; undefined until the stored offset is known. */
  next: number | undefined
  /** Offset of the next record to be written. */
  stored: number
  /** The first offset that is still in the log, and the one after the last. */
  low: number
  high: number
  /** Why nothing is read from it any more. */
  stopped: BridgeError | undefined
}

/** The partitions that this worker was given. */
export class Positions {
  private readonly byKey = new Map<string, Position>()

  /** Replaces the assignment; nothing is known of it yet. */
  assign(names: readonly PartitionName[]): void {
    this.byKey.clear()
    for (const name of names) {
      const unknown = { next: undefined, stored: 0, low: 0, high: 0, stopped: undefined }
      this.byKey.set(`${name.topic}/${name.partition}`, { ...name, ...unknown })
    }
  }

  get(topic: string, partition: number): Position | undefined {
    return this.byKey.get(`${topic}/${partition}`)
  }

  get all(): Position[] {
    return [...this.byKey.values()]
  }

  get running(): Position[] {
    return this.all.filter(({ next, stopped }) => next !== undefined && stopped === undefined)
  }

  /** Records that are in the log and not in the tables. */
  get lag(): number {
    return this.all.reduce((sum, { high, stored }) => sum + Math.max(0, high - stored), 0)
  }

  /** Records that were not even read, of partitions that are being read. */
  get unread(): number {
    return this.running.reduce((sum, { high, next }) => sum + Math.max(0, high - (next ?? high)), 0)
  }
}

/** In the form that kafkajs' pause and resume take. */
export function byTopic(positions: readonly Position[]): { topic: string; partitions: number[] }[] {
  return [...Map.groupBy(positions, ({ topic }) => topic)].map(([topic, members]) => ({
    topic,
    partitions: members.map(({ partition }) => partition),
  }))
}
