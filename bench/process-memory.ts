import { readFileSync } from 'node:fs'
import { treeOf } from '#platform/process-cpu.ts'

/**
 * Memory of a process and of everything it started, in bytes, from /proc (Linux): proportional set size, so that what the processes of Postgres
 * share counts once.
 */
export function memoryOf(pid: number): number {
  let bytes = 0
  for (const one of treeOf(pid)) {
    try {
      const [, kib] = /^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${one}/smaps_rollup`, 'utf8')) ?? []
      bytes += Number(kib ?? 0) * 1024
    } catch {
      // It ended between the two reads.
    }
  }
  return bytes
}
