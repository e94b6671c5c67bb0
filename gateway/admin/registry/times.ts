import { invalid } from './refusal.ts'

const unitMs = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 } as const
const longestMs = 36_500 * unitMs.d

/** `90d`, `12h`, `30m`, `45s`, `2w` in milliseconds. @throws BridgeError BRIDGE_USAGE */
export function durationMs(text: string, what: string): number {
  const match = /^(\d{1,8})([smhdw])$/.exec(text)
  const ms = match === null ? Number.NaN : Number(match[1]) * unitMs[match[2] as keyof typeof unitMs]
  if (!(ms <= longestMs)) throw invalid(`${what} ${JSON.stringify(text.slice(0, 40))} is no time such as 90d, 12h, 30m`)
  return ms
}

const isoPattern = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2}))?$/

/**
 * When a credential ends: `90d` from now, or an ISO time with its zone (a date alone is its first moment in UTC).
 * @throws BridgeError BRIDGE_USAGE, also when that is over
 */
export function expiryOf(text: string, nowMs = Date.now()): Date {
  if (/^\d+[a-z]$/.test(text)) {
    const ms = durationMs(text, 'the expiry')
    if (ms === 0) throw invalid('an expiry of 0 would be over at once')
    return new Date(nowMs + ms)
  }
  const ms = isoPattern.test(text) ? Date.parse(text) : Number.NaN
  if (Number.isNaN(ms))
    throw invalid(
      `the expiry ${JSON.stringify(text.slice(0, 40))} is neither a time such as 90d nor one such as 2030-01-31 or 2030-01-31T12:00:00Z`,
    )
  if (ms <= nowMs) throw invalid(`the expiry ${text} is over already`)
  if (ms - nowMs > longestMs) throw invalid(`the expiry ${text} is more than 100 years ahead; leave it out for none`)
  return new Date(ms)
}

/** A moment in the past or to come: `2h` ago, or an ISO time with its zone (a date alone is its first moment in UTC). @throws BridgeError BRIDGE_USAGE */
export function momentOf(text: string, what: string, nowMs = Date.now()): Date {
  if (/^\d+[a-z]$/.test(text)) return new Date(nowMs - durationMs(text, what))
  const ms = isoPattern.test(text) ? Date.parse(text) : Number.NaN
  if (Number.isNaN(ms))
    throw invalid(
      `${what} ${JSON.stringify(text.slice(0, 40))} is neither a time such as 2h nor one such as 2030-01-31T12:00:00Z`,
    )
  return new Date(ms)
}

/** A column's time with its microseconds, as programs read it. */
export const microTime = (column: string) => `to_char(${column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`
