import type { Measured } from './measure.ts'

/** The middle one of a measurement's rounds, and its extremes. */
export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

/** What fleetbridge is to a peer: one ratio for each time that the peer was measured. */
export interface PeerRatio {
  readonly peer: string
  readonly acknowledged: Spread
  /** Messages stored a second, where the peer stores any. */
  readonly stored: Spread | null
}

const ours = 'fleetbridge'

/**
 * Ratios of neighbours in time: each measurement of a peer beside the mean of ours before and after it, so that a machine that
 * gets slower by and by does so for both. The median of these counts, and not the ratio of medians of different minutes.
 * @param measured in the order in which they were made
 * @param readings rows that fleetbridge makes of a message; a peer makes one
 */
export function peerRatios(measured: readonly Measured[], readings: number): PeerRatio[] {
  const pairs = new Map<string, { acknowledged: number[]; stored: number[] }>()
  for (const [index, { name, messagesPerSecond, rowsPerSecond }] of measured.entries()) {
    if (name.startsWith(ours)) continue
    const before = measured.slice(0, index).findLast((one) => one.name === ours)
    const after = measured.slice(index + 1).find((one) => one.name === ours)
    const beside = [before, after].filter((one) => one !== undefined)
    if (beside.length === 0) continue
    const pair = pairs.get(name) ?? { acknowledged: [], stored: [] }
    pairs.set(name, pair)
    pair.acknowledged.push(mean(beside.map((one) => one.messagesPerSecond)) / messagesPerSecond)
    if (rowsPerSecond !== null)
      pair.stored.push(mean(beside.map((one) => (one.rowsPerSecond ?? 0) / readings)) / rowsPerSecond)
  }
  return [...pairs].map(([peer, { acknowledged, stored }]) => ({
    peer,
    acknowledged: spreadOf(acknowledged),
    stored: stored.length === 0 ? null : spreadOf(stored),
  }))
}

/** @param values at least one */
export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((one, other) => one - other)
  const half = Math.floor(sorted.length / 2)
  const upper = sorted[half] as number
  const median = sorted.length % 2 === 1 ? upper : ((sorted[half - 1] as number) + upper) / 2
  return { median, min: sorted[0] as number, max: sorted.at(-1) as number }
}

export function ratioLines(ratios: readonly PeerRatio[], readings: number): string[] {
  return ratios.flatMap(({ peer, acknowledged, stored }) => [
    `fleetbridge acknowledges ${text(acknowledged)} what ${peer} does`,
    ...(stored === null
      ? []
      : [`fleetbridge stores ${text(stored)} the messages a second of ${peer} (in ${readings} rows each, there one)`]),
  ])
}

function text({ median, min, max }: Spread): string {
  return `${median.toFixed(2)} × (${min.toFixed(2)} to ${max.toFixed(2)})`
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}
