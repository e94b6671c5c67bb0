import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { Histogram, type HistogramJson } from './histogram.ts'
import { type FleetOptions, type FleetResult, runFleet } from './run-fleet.ts'
import { addCounts, type Counts, emptyCounts, type Second } from './series.ts'

/** What a run came to, of one process or of several together. */
export interface FleetsResult {
  readonly counts: Counts
  readonly errors: ReadonlyMap<string, number>
  readonly answers: Histogram
  readonly pace: Histogram
  readonly seconds: readonly Second[]
  readonly waiting: number
  readonly sendingMs: number
  readonly cpuUs: number
  readonly memoryBytes: number
  readonly journals: readonly string[]
}

export interface FleetsOptions extends Omit<FleetOptions, 'onSecond' | 'firstIndex'> {
  readonly processes: number
  readonly onSecond: (second: Second, soFar: { counts: Counts; errors: ReadonlyMap<string, number> }) => void
}

type ProcessOptions = Omit<FleetOptions, 'signal' | 'onSecond' | 'ca'> & { readonly ca?: string | undefined }
export type ToFleetProcess = ProcessOptions | 'stop'

interface ProcessResult extends Omit<FleetResult, 'stats'> {
  readonly counts: Counts
  readonly errors: readonly (readonly [string, number])[]
  readonly answers: HistogramJson
  readonly pace: HistogramJson
}
export type FromFleetProcess =
  | { readonly second: Second; readonly recent: HistogramJson }
  | { readonly result: ProcessResult }
  | { readonly failure: string }

const script = fileURLToPath(new URL('./fleet-process.ts', import.meta.url))

/** Runs a fleet in this process, or shares it out among several; each process writes a journal of its own. */
export async function runFleets(options: FleetsOptions): Promise<FleetsResult> {
  if (options.processes === 1) {
    const { stats, ...result } = await runFleet({
      ...options,
      firstIndex: 0,
      onSecond: (second, _recent, { counts, errors }) => options.onSecond(second, { counts, errors }),
    })
    return { ...result, ...stats, counts: stats.counts, errors: stats.errors, journals: [options.journalPath] }
  }
  const { processes, logins, journalPath } = options
  const journals = Array.from({ length: processes }, (_, index) => `${journalPath}.${index + 1}`)
  const merger = new SecondsMerger(processes, options.onSecond)
  // Device by device in turn, so that every process has some of every group; but the same device is the same whoever runs it.
  const size = Math.ceil(logins.length / processes)
  const results = await Promise.all(
    journals.map((path, index) =>
      runProcess(
        {
          ...options,
          journalPath: path,
          logins: logins.slice(index * size, (index + 1) * size),
          firstIndex: index * size,
        },
        (second, recent) => merger.add(second, Histogram.from(recent)),
      ),
    ),
  )
  return { ...mergedResult(results), seconds: merger.seconds, journals }
}

function runProcess(
  options: FleetsOptions & { firstIndex: number },
  onSecond: (second: Second, recent: HistogramJson) => void,
): Promise<ProcessResult> {
  const { signal, onSecond: _mine, processes: _count, ca, ...rest } = options
  return new Promise((resolve, reject) => {
    const child: ChildProcess = fork(script, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    const stop = () => child.connected && child.send('stop' satisfies ToFleetProcess)
    signal.addEventListener('abort', stop)
    let result: ProcessResult | undefined
    child.on('message', (message: FromFleetProcess) => {
      if ('second' in message) onSecond(message.second, message.recent)
      else if ('result' in message) result = message.result
      else reject(new Error(message.failure))
    })
    child.on('error', reject)
    child.on('exit', (code) => {
      signal.removeEventListener('abort', stop)
      if (result !== undefined) resolve(result)
      else reject(new Error(`a process of the fleet ended with ${code}`))
    })
    child.send({ ...rest, ...(ca !== undefined && { ca: ca.toString() }) } satisfies ToFleetProcess)
  })
}

/** Seconds of several processes, added up when all have told theirs. */
class SecondsMerger {
  readonly seconds: Second[] = []
  readonly #processes: number
  readonly #onSecond: FleetsOptions['onSecond']
  readonly #open = new Map<number, { seconds: Second[]; recent: Histogram }>()
  readonly #counts = emptyCounts()
  readonly #errors = new Map<string, number>()

  constructor(processes: number, onSecond: FleetsOptions['onSecond']) {
    this.#processes = processes
    this.#onSecond = onSecond
  }

  add(second: Second, recent: Histogram): void {
    const open = this.#open.get(second.at) ?? { seconds: [], recent: new Histogram() }
    this.#open.set(second.at, open)
    open.seconds.push(second)
    open.recent.add(recent)
    if (open.seconds.length < this.#processes) return
    this.#open.delete(second.at)
    const sum = (of: (one: Second) => number) => open.seconds.reduce((total, one) => total + of(one), 0)
    const merged: Second = {
      at: second.at,
      due: sum(({ due }) => due),
      sent: sum(({ sent }) => sent),
      accepted: sum(({ accepted }) => accepted),
      errors: sum(({ errors }) => errors),
      connected: sum(({ connected }) => connected),
      inFlight: sum(({ inFlight }) => inFlight),
      waiting: sum(({ waiting }) => waiting),
      p50: open.recent.count === 0 ? null : open.recent.at(0.5) / 1000,
      p99: open.recent.count === 0 ? null : open.recent.at(0.99) / 1000,
    }
    this.seconds.push(merged)
    this.#counts.due += merged.due
    this.#counts.sent += merged.sent
    this.#counts.accepted += merged.accepted
    if (merged.errors > 0) this.#errors.set('errors', (this.#errors.get('errors') ?? 0) + merged.errors)
    this.#onSecond(merged, { counts: this.#counts, errors: this.#errors })
  }
}

function mergedResult(results: readonly ProcessResult[]): Omit<FleetsResult, 'seconds' | 'journals'> {
  const counts = emptyCounts()
  const errors = new Map<string, number>()
  const [answers, pace] = [new Histogram(), new Histogram()]
  for (const result of results) {
    addCounts(counts, result.counts)
    for (const [code, count] of result.errors) errors.set(code, (errors.get(code) ?? 0) + count)
    answers.add(Histogram.from(result.answers))
    pace.add(Histogram.from(result.pace))
  }
  const sum = (of: (one: ProcessResult) => number) => results.reduce((total, one) => total + of(one), 0)
  return {
    counts,
    errors,
    answers,
    pace,
    waiting: sum(({ waiting }) => waiting),
    sendingMs: Math.max(...results.map(({ sendingMs }) => sendingMs)),
    cpuUs: sum(({ cpuUs }) => cpuUs),
    memoryBytes: sum(({ memoryBytes }) => memoryBytes),
  }
}
