import { windowsOf } from '../rate-limit/limits.ts'

const maxDelayMs = 30_000
const maxEntries = 50_000

interface Failures {
  count: number
  sinceMs: number
  notBeforeMs: number
}

/** Remembers failed logins by address and by address and name; past the limit answers wait 1, 2, 4 … 30 s. */
export class LoginGuard {
  readonly #windows: readonly { burst: number; seconds: number }[]
  readonly #failures = new Map<string, Failures>()

  /** @param limit `N:S`: N failures in S seconds are free; `none` switches it off */
  constructor(limit: string) {
    this.#windows = windowsOf(limit, 'auth.failures')
  }

  delayMs(address: string, name: string | undefined, nowMs: number): number {
    let notBeforeMs = 0
    for (const key of keysOf(address, name))
      notBeforeMs = Math.max(notBeforeMs, this.#failures.get(key)?.notBeforeMs ?? 0)
    return Math.max(0, notBeforeMs - nowMs)
  }

  failed(address: string, name: string | undefined, nowMs: number): void {
    const [window] = this.#windows
    if (window === undefined) return
    for (const key of keysOf(address, name)) {
      const known = this.#failures.get(key)
      const isRecent = known !== undefined && nowMs - known.sinceMs < window.seconds * 1000
      const entry = isRecent ? known : { count: 0, sinceMs: nowMs, notBeforeMs: 0 }
      entry.count++
      const beyond = entry.count - window.burst
      if (beyond > 0) entry.notBeforeMs = nowMs + Math.min(maxDelayMs, 1000 * 2 ** Math.min(beyond - 1, 5))
      this.#failures.delete(key)
      this.#failures.set(key, entry)
    }
    while (this.#failures.size > maxEntries) {
      const [oldest] = this.#failures.keys()
      if (oldest !== undefined) this.#failures.delete(oldest)
    }
  }
}

function keysOf(address: string, name: string | undefined): string[] {
  return name === undefined ? [address] : [address, `${address} ${name.slice(0, 256)}`]
}
