/** The round in the middle by its rate (the lower one of two), so that its figures belong together. */
export function medianOf<T extends { readonly messagesPerSecond: number }>(rounds: readonly T[]): T {
  const sorted = rounds.toSorted((one, other) => one.messagesPerSecond - other.messagesPerSecond)
  return sorted[Math.floor((sorted.length - 1) / 2)] as T
}
