import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { medianOf } from '#simulator/median.ts'
import type { Measured } from './measure.ts'
import type { PeerRatio } from './ratios.ts'

export interface BenchResult {
  readonly at: string
  readonly commit: string
  readonly machine: { readonly node: string; readonly cpus: number; readonly model?: string | undefined }
  readonly measured: readonly Measured[]
  /** Absent in results of before. */
  readonly ratios?: readonly PeerRatio[]
}

/** The median of each measurement, in the order in which they were made first. */
export function mediansOf(measured: readonly Measured[]): Measured[] {
  const byName = new Map<string, Measured[]>()
  for (const one of measured) byName.set(one.name, [...(byName.get(one.name) ?? []), one])
  return [...byName.values()].map(medianOf)
}

/** @param name a file of bench/results, or the beginning of a commit whose newest result is meant */
export function readResult(name: string): BenchResult {
  for (const path of [name, join(fileURLToPath(new URL('./results/', import.meta.url)), name)])
    try {
      return JSON.parse(readFileSync(path, 'utf8')) as BenchResult
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
  throw new Error(`no result ${name}: bench/results holds those of this machine`)
}

/** What the second run is to the first, measurement by measurement. */
export function comparison(before: BenchResult, after: BenchResult): string {
  const [first, second] = [mediansOf(before.measured), mediansOf(after.measured)]
  const lines = [`${before.commit} (${before.at}) → ${after.commit} (${after.at})`, '']
  for (const one of first) {
    const other = second.find(({ name }) => name === one.name)
    if (other === undefined) continue
    const ratios = [
      `msg/s × ${ratio(other.messagesPerSecond, one.messagesPerSecond)}`,
      ...(one.report.ackMs === null || other.report.ackMs === null
        ? []
        : [`ack p99 × ${ratio(other.report.ackMs.p99, one.report.ackMs.p99)}`]),
      ...Object.keys(one.cpuUs).flatMap((process) =>
        other.cpuUs[process] === undefined
          ? []
          : [`${process} µs × ${ratio(other.cpuUs[process] as number, one.cpuUs[process] as number)}`],
      ),
    ]
    lines.push(`${one.name}: ${ratios.join(', ')}`)
  }
  return lines.join('\n')
}

function ratio(now: number, before: number): string {
  return before === 0 ? '-' : (now / before).toFixed(2)
}
