import type { Outbox } from './outbox.ts'
import type { Transport } from './transport.ts'

const terminalEveryMs = 500
const logEveryMs = 10_000

/** Tells how a run goes: on a terminal one line that is redrawn, else a line in ten seconds. @returns what ends it */
export function showProgress(
  to: NodeJS.WriteStream,
  run: { readonly outbox: Outbox; readonly transport: Transport; readonly rate: number | undefined },
): () => void {
  const { outbox, transport, rate } = run
  let before = outbox.journal.totals()
  let beforeMs = performance.now()
  const start = beforeMs
  let drawn = false

  function line(): string {
    const totals = outbox.journal.totals()
    const now = performance.now()
    const perSecond = Math.round(((totals.sent - before.sent) * 1000) / (now - beforeMs))
    before = totals
    beforeMs = now
    const p99 = outbox.tally.takeRecentP99Ms()
    const parts = [
      `${Math.round((now - start) / 1000)} s`,
      rate === undefined ? `${perSecond} msg/s` : `${perSecond} of ${rate} msg/s`,
      `${totals.sent} sent`,
      `${totals.acknowledged} acknowledged`,
      `${transport.inFlight()} in flight`,
      `${transport.connected()} connected`,
      `p99 ${p99 === undefined ? '-' : `${p99.toFixed(1)} ms`}`,
      `${outbox.tally.errors()} errors`,
    ]
    return parts.join(', ')
  }

  const timer = setInterval(
    () => {
      if (!to.isTTY) return void to.write(`${line()}\n`)
      // Cut to the terminal's width, or the line would wrap and could not be redrawn.
      to.write(`\r\x1b[K${line().slice(0, (to.columns ?? 80) - 1)}`)
      drawn = true
    },
    to.isTTY ? terminalEveryMs : logEveryMs,
  )
  return () => {
    clearInterval(timer)
    if (drawn) to.write('\r\x1b[K')
  }
}
