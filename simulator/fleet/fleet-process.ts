import { runFleet } from './run-fleet.ts'
import type { FromFleetProcess, ToFleetProcess } from './run-fleets.ts'

// One process of a fleet that is too large for one: told what to do by its parent, and ends with it.
const stop = new AbortController()
const tell = (message: FromFleetProcess) => process.send?.(message)
process.on('disconnect', () => process.exit(1))
// A terminal sends Ctrl-C to all; the parent says when to stop.
process.on('SIGINT', () => undefined)
process.on('message', (message: ToFleetProcess) => {
  if (message === 'stop') return stop.abort()
  const { ca, ...options } = message
  void runFleet({
    ...options,
    ca: ca === undefined ? undefined : Buffer.from(ca),
    signal: stop.signal,
    onSecond: (second, recent) => tell({ second, recent: recent.toJSON() }),
  })
    .then(
      ({ stats, ...result }) =>
        tell({
          result: {
            ...result,
            counts: stats.counts,
            errors: [...stats.errors],
            answers: stats.answers.toJSON(),
            pace: stats.pace.toJSON(),
          },
        }),
      (error: unknown) => tell({ failure: error instanceof Error ? error.message : String(error) }),
    )
    .finally(() => process.disconnect())
})
