import { readFileSync } from 'node:fs'

/** Whether a process of this id runs, ours or not. One that ended and was not collected yet does not: in a container nobody may collect it. */
export function isAlive(pid: number): boolean {
  if (!(pid > 0)) return false
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false
  }
  return !isZombie(pid)
}

export function isZombie(pid: number): boolean {
  return statFields(pid)?.[0] === 'Z'
}

/** Tells a process from a later one with the same id; empty where the system does not say. */
export function startMark(pid: number): string {
  return statFields(pid)?.[19] ?? ''
}

/** Fields of proc_pid_stat(5) from the third (state) on; the second may hold anything. */
function statFields(pid: number): string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  } catch {
    return undefined // gone, or no /proc here
  }
}
