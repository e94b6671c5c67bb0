import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { cpuUsOf, machineCpuUs } from '#platform/process-cpu.ts'
import type { Report } from '#simulator/report.ts'
import type { LoadMessage, LoadOptions } from './load.ts'

const loadScript = fileURLToPath(new URL('./load.ts', import.meta.url))

export interface Measured {
  readonly name: string
  readonly report: Report
  /** Messages acknowledged a second while sending. */
  readonly messagesPerSecond: number
  /**
   * CPU microseconds an acknowledged message: from the first message until its answers are in and, where rows are compared, all rows
   * are there. Work that comes later (the worker's, Postgres's) is counted with the messages that cause it.
   */
  readonly cpuUs: Readonly<Record<string, number>>
  /** Cores that were busy with anything else meanwhile, the kernel's own threads included: a high figure spoils the others. */
  readonly otherCores: number
}

const everything = 'everything'

/** Runs one load against what listens on its port and reads the CPU time of the named processes meanwhile. */
export async function measure(options: LoadOptions, pids: Readonly<Record<string, number>>): Promise<Measured> {
  const load = fork(loadScript, [JSON.stringify(options)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
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
  const acked = Math.max(1, report.acked)
  const spentUs = (name: string) => (after.cpuUs.get(name) ?? 0) - (before.cpuUs.get(name) ?? 0)
  const oursUs = watched.reduce((sum, [name]) => sum + spentUs(name), 0)
  return {
    name: options.name,
    report,
    messagesPerSecond: (report.acked * 1000) / report.durationMs,
    cpuUs: Object.fromEntries(watched.map(([name]) => [name, spentUs(name) / acked])),
    otherCores: Math.max(0, spentUs(everything) - oursUs) / ((after.atMs - before.atMs) * 1000),
  }
}

function endOf(child: ChildProcess): void {
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
}
