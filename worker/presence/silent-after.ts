export interface SilenceBounds {
  readonly minSeconds: number
  readonly maxSeconds: number
}

/** Fewer gaps say too little. */
const leastGaps = 8
/** The longest ones are taken for outages: a device that was off for a weekend is not one that reports weekly. */
const forgivenGaps = 2

/**
 * How long a device may be still before it is silent, from when its messages arrived: four times the median of the gaps, twice the 95th percentile,
 * one and a half times the gap in which half of the time was spent (of a device that sends bursts), whichever is longest, within the bounds.
 * The two longest gaps are left out.
 * @param arrivals seconds, in any order
 * @returns seconds; undefined when there were too few
 */
export function silentAfter(
  arrivals: readonly number[],
  { minSeconds, maxSeconds }: SilenceBounds,
): number | undefined {
  const times = arrivals.toSorted((a, b) => a - b)
  const gaps: number[] = []
  for (let index = 1; index < times.length; index++) {
    const gap = (times[index] as number) - (times[index - 1] as number)
    if (gap > 0) gaps.push(gap)
  }
  if (gaps.length < leastGaps) return undefined
  gaps.sort((a, b) => a - b)
  const usual = gaps.slice(0, gaps.length - forgivenGaps)
  const wanted = Math.max(4 * quantile(usual, 0.5), 2 * quantile(usual, 0.95), 1.5 * halfOfTime(usual))
  return Math.min(maxSeconds, Math.max(minSeconds, Math.ceil(wanted)))
}

function quantile(sorted: readonly number[], part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] as number
}

/** Half of all time lies in gaps that are as long as this, or longer. */
function halfOfTime(sorted: readonly number[]): number {
  const half = sorted.reduce((sum, gap) => sum + gap, 0) / 2
  let sum = 0
  for (const gap of sorted) {
    sum += gap
    if (sum >= half) return gap
  }
  return 0
}
