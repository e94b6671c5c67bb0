/** Microseconds since the epoch that never go back: the wall clock once, then the monotonic one. */
export interface Clock {
  nowUs(): number
}

export function createClock(): Clock {
  const zeroUs = Date.now() * 1000
  const zeroMs = performance.now()
  return { nowUs: () => zeroUs + (performance.now() - zeroMs) * 1000 }
}
