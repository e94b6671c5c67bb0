import { setTimeout as sleep } from 'node:timers/promises'
import { cpuUsOf } from '#platform/process-cpu.ts'
import type { Target } from './target.ts'
import { runTool, type Setting, type Tool, type ToolResult } from './tool.ts'

export interface Measured extends ToolResult {
  readonly target: string
  readonly setting: Setting
  /** Rows that the run's messages became; null where nothing is stored. */
  readonly rows: number | null
  /** Microseconds of CPU an acknowledged message, of each process that is watched, until all rows are there. */
  readonly cpuUs: Readonly<Record<string, number>>
}

/** No row came for this long: no more will. */
const quietMs = 5000

export async function measure(tool: Tool, target: Target, setting: Setting): Promise<Measured> {
  const rowsBefore = (await target.rows?.()) ?? 0
  const before = cpuOf(target)
  const result = await runTool(tool, setting, target.logins, `fleetbridge-${process.pid}`)
  const rows = target.rows === undefined ? null : await settledRows(target.rows, rowsBefore, result.acknowledged)
  const after = cpuOf(target)
  const cpuUs = Object.fromEntries(
    [...after].map(([name, us]) => [name, (us - (before.get(name) ?? 0)) / Math.max(1, result.acknowledged)]),
  )
  return { target: target.name, setting, ...result, rows, cpuUs }
}

function cpuOf({ pids }: Target): Map<string, number> {
  return new Map([...pids].map(([name, pid]) => [name, cpuUsOf(pid)]))
}

async function settledRows(count: () => Promise<number>, before: number, wanted: number): Promise<number> {
  let rows = 0
  for (let lastGrowthMs = performance.now(); performance.now() - lastGrowthMs < quietMs; await sleep(250)) {
    const now = (await count()) - before
    if (now !== rows) lastGrowthMs = performance.now()
    rows = now
    if (rows >= wanted) break
  }
  return rows
}
