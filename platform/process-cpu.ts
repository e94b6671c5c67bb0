import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'

interface Stat {
  readonly parent: number
  /** Own time, and that of children that have ended and were waited for. */
  readonly ticks: number
}

let ticksPerSecond: number | undefined

/**
 * CPU time of a process and of everything it started, those that ended meanwhile too: microseconds of user and system time, from
 * /proc (Linux). All its threads count, so a JVM's compiler and collector and V8's helpers do.
 */
export function cpuUsOf(pid: number): number {
  const stats = readStats()
  return microseconds(treeOf(pid, stats).reduce((sum, one) => sum + (stats.get(one)?.ticks ?? 0), 0))
}

/** The process, and all that descend from it. */
export function treeOf(pid: number, stats: ReadonlyMap<number, Stat> = readStats()): number[] {
  const children = new Map<number, number[]>()
  for (const [child, { parent }] of stats) {
    const siblings = children.get(parent)
    if (siblings === undefined) children.set(parent, [child])
    else siblings.push(child)
  }
  const tree = [pid]
  for (const next of tree) tree.push(...(children.get(next) ?? [])) // grows while it is walked
  return tree
}

/** CPU time that the whole machine has spent working since it started, what its host took away included, in microseconds. */
export function machineCpuUs(): number {
  const line = readFileSync('/proc/stat', 'utf8').split('\n', 1)[0] as string
  const [user, nice, system, _idle, _iowait, irq, softirq, steal] = line
    .split(/\s+/)
    .slice(1, 9)
    .map(Number) as number[]
  return microseconds([user, nice, system, irq, softirq, steal].reduce<number>((sum, ticks) => sum + (ticks ?? 0), 0))
}

function microseconds(ticks: number): number {
  ticksPerSecond ??= Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))
  return (ticks * 1_000_000) / ticksPerSecond
}

function readStats(): Map<number, Stat> {
  const stats = new Map<number, Stat>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      stats.set(Number(name), parseStat(readFileSync(`/proc/${name}/stat`, 'utf8')))
    } catch {
      // It ended between the two reads.
    }
  }
  return stats
}

/** proc_pid_stat(5): the name in parentheses may hold anything, so fields are counted from its end. */
export function parseStat(text: string): Stat {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const [utime, stime, cutime, cstime] = fields.slice(11, 15).map(Number) as [number, number, number, number]
  return { parent: Number(fields[1]), ticks: utime + stime + cutime + cstime }
}
