import { type ChildProcess, fork } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { cpuUsOf, machineCpuUs } from '#platform/process-cpu.ts'
import type { Report } from '#simulator/report.ts'
import type { LoadMessage, LoadOptions } from './load.ts'

export interface Measured {
  readonly name: string
  readonly report: Report
  /** Messages acknowledged a second while sending. */
  readonly messagesPerSecond: number
  /** Rows that came to be a second, from the first message until the last row; null where there are none. */
  readonly rowsPerSecond: number | null
  /**
   * CPU microseconds an acknowledged message: from the first message until its answers are in and, where rows are compared, all rows
   * are there. Work that comes later (the worker's, Postgres's) is counted with the messages that cause it.
   */
  readonly cpuUs: Readonly<Record<string, number>>
  /** Resident memory of each process at the end, megabytes. */
  readonly memoryMb: Readonly<Record<string, number>>
  /** Cores that were busy with anything else meanwhile, the kernel's own threads included: a high figure spoils the others. */
  readonly otherCores: number
}

export interface MeasureOptions {
  /** Where the load generator does not look itself: resolves when no more rows come, with their number and the time of the last one. */
  readonly rowsOf?: (acknowledged: number) => Promise<{ rows: number; lastAtMs: number }>
  /** Which load generator; load.ts when absent. */
  readonly script?: string
}

const everything = 'everything'

/** Runs one load against what listens on its port and reads the CPU time of the named processes meanwhile. */
export async function measure(
  options: LoadOptions,
  pids: Readonly<Record<string, number>>,
  { rowsOf, script = 'load.ts' }: MeasureOptions = {},
): Promise<Measured> {
  const file = fileURLToPath(new URL(script, import.meta.url))
  const load = fork(file, [JSON.stringify(options)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const watched = Object.entries({ ...pids, 'load generator': load.pid as number })
  const readAll = () => ({
    atMs: performance.now(),
    cpuUs: new Map([...watched.map(([name, pid]) => [name, cpuUsOf(pid)] as const), [everything, machineCpuUs()]]),
  })
  let before = readAll()
  let after = before
  const report = await new Promise<Report>((resolve, reject) => {
    let result: Report | undefined
    load.on('message', (message: LoadMessage) => {
      if ('report' in message) result = message.report
      else if (message.phase === 'sending') before = readAll()
      else after = readAll()
    })
    load.on('error', reject)
    load.on('exit', (code) => {
      if (result !== undefined) resolve(result)
      else reject(new Error(`the load generator ended with ${code} and without a report`))
    })
  }).finally(() => endOf(load))
  let rows = report.rows ?? null
  let untilRowsMs = report.durationMs + (report.settledAfterMs ?? 0)
  if (rowsOf !== undefined) {
    const settled = await rowsOf(report.acked)
    rows = settled.rows
    const generator = after.cpuUs.get('load generator') ?? 0 // it has ended
    after = readAll()
    after.cpuUs.set('load generator', generator)
    untilRowsMs = settled.lastAtMs - before.atMs
  }
  const acked = Math.max(1, report.acked)
  const spentUs = (name: string) => (after.cpuUs.get(name) ?? 0) - (before.cpuUs.get(name) ?? 0)
  const oursUs = watched.reduce((sum, [name]) => sum + spentUs(name), 0)
  return {
    name: options.name,
    report,
    messagesPerSecond: (report.acked * 1000) / report.durationMs,
    rowsPerSecond: rows === null ? null : (rows * 1000) / untilRowsMs,
    cpuUs: Object.fromEntries(watched.map(([name]) => [name, spentUs(name) / acked])),
    memoryMb: Object.fromEntries(Object.entries(pids).map(([name, pid]) => [name, memoryMbOf(pid)])),
    otherCores: Math.max(0, spentUs(everything) - oursUs) / ((after.atMs - before.atMs) * 1000),
  }
}

/** proc_pid_status(5): VmRSS of the process alone. */
function memoryMbOf(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) / 1024
}

function endOf(child: ChildProcess): void {
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
}
