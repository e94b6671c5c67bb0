import { readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { mediansOf } from './compare.ts'
import type { Measured } from './measure.ts'
import { spreadOf } from './ratios.ts'

const page = new URL('../docs/performance.md', import.meta.url)
const begin = '<!-- made by: npm run bench -- --docs -->'
const end = '<!-- end -->'

/** Puts a run's medians, and how far its rounds lie apart, into docs/performance.md, between its two marks. */
export function writePerformancePage(measured: readonly Measured[], ratios: readonly string[], commit: string): void {
  const text = readFileSync(page, 'utf8')
  const [head, rest] = text.split(begin) as [string, string]
  const tail = rest.slice(rest.indexOf(end))
  const machine = `${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}, Node ${process.version}, commit ${commit}, ${new Date().toISOString().slice(0, 10)}`
  const list = ratios.map((line) => `- ${line}`).join('\n')
  writeFileSync(page, `${head}${begin}\n${machine}; medians.\n\n${markdown(measured)}\n\n${list}\n${tail}`)
}

function markdown(measured: readonly Measured[]): string {
  const medians = mediansOf(measured)
  const rates = (name: string) =>
    spreadOf(measured.filter((one) => one.name === name).map((one) => one.messagesPerSecond))
  const columns: (readonly [string, (one: Measured) => string])[] = [
    ['', ({ name }) => name],
    ['msg/s', ({ messagesPerSecond }) => messagesPerSecond.toFixed(0)],
    ['min to max', ({ name }) => `${rates(name).min.toFixed(0)} to ${rates(name).max.toFixed(0)}`],
    ['rows/s', ({ rowsPerSecond }) => rowsPerSecond?.toFixed(0) ?? '-'],
    ['p50 ms', ({ report }) => number(report.ackMs?.p50)],
    ['p99 ms', ({ report }) => number(report.ackMs?.p99)],
    ['lost', ({ report }) => (report.missing === undefined ? '-' : String(report.missing))],
    ['doubled', ({ report }) => (report.doubled === undefined ? '-' : String(report.doubled))],
    ...['gateway', 'worker', 'Kafka', 'Postgres', 'Redis'].map(
      (name) => [`${name} µs`, ({ cpuUs }: Measured) => number(cpuUs[name])] as const,
    ),
    ['gateway MB', ({ memoryMb }) => number(memoryMb.gateway)],
    ['pace', ({ report }) => (report.self.keptPace ? 'kept' : 'lost')],
  ]
  const used = columns.filter(([name, of]) => name === '' || medians.some((one) => of(one) !== '-'))
  const lines = [
    used.map(([name]) => name),
    used.map(([name]) => (name === '' ? '---' : '---:')),
    ...medians.map((one) => used.map(([, of]) => of(one))),
  ]
  return lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

function number(value: number | undefined): string {
  return value === undefined ? '-' : value.toFixed(value < 100 ? 1 : 0)
}
