import { invalid } from '../registry/refusal.ts'
import { momentOf } from '../registry/times.ts'

/** `from` and `to` of a query; a day ago and now when absent. @throws BridgeError BRIDGE_USAGE */
export function rangeOf({
  from = '1d',
  to,
}: {
  readonly from?: string | undefined
  readonly to?: string | undefined
}): {
  from: Date
  to: Date
} {
  const range = {
    from: momentOf(from, 'the time from when'),
    to: to === undefined ? new Date() : momentOf(to, 'the time until when'),
  }
  if (range.from >= range.to) throw invalid('the range ends before it begins')
  return range
}
