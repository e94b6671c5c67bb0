import type { Counts, Second } from '../fleet/series.ts'

const logEverySeconds = 10
const barWidth = 30
const sparks = '▁▂▃▄▅▆▇█'

export interface LiveView {
  second(second: Second, soFar: { counts: Counts; errors: ReadonlyMap<string, number> }): void
  end(): void
}

/** Shows how a run goes: on a terminal a block that is redrawn every second, else a line in ten seconds. */
export function createLiveView(
  to: NodeJS.WriteStream,
  run: { readonly title: string; readonly durationMs: number; readonly devices: number },
): LiveView {
  let drawn = 0
  const recent: number[] = []
  return {
    second(second, soFar) {
      recent.push(second.p99 ?? 0)
      if (recent.length > 40) recent.shift()
      if (!to.isTTY) {
        if (second.at % logEverySeconds === 0) to.write(`${plainLine(second, soFar, run.durationMs)}\n`)
        return
      }
      const width = (to.columns ?? 80) - 1
      const lines = block(second, soFar, run, recent).map((line) => line.slice(0, width))
      to.write(`${drawn > 0 ? `\x1b[${drawn}A` : ''}${lines.map((line) => `\r\x1b[K${line}\n`).join('')}`)
      drawn = lines.length
    },
    end() {
      drawn = 0
    },
  }
}

function plainLine(
  second: Second,
  { counts, errors }: { counts: Counts; errors: ReadonlyMap<string, number> },
  durationMs: number,
): string {
  return [
    `${second.at} of ${Math.round(durationMs / 1000)} s`,
    `${second.sent} of ${second.due} msg/s`,
    `${counts.accepted} acknowledged`,
    `${second.inFlight} in flight`,
    `${second.waiting} waiting`,
    `${second.connected} connected`,
    `p50 ${ms(second.p50)}`,
    `p99 ${ms(second.p99)}`,
    `errors ${errorText(errors)}`,
  ].join(', ')
}

function block(
  second: Second,
  { counts, errors }: { counts: Counts; errors: ReadonlyMap<string, number> },
  { title, durationMs, devices }: { title: string; durationMs: number; devices: number },
  recent: readonly number[],
): string[] {
  const part = Math.min(1, (second.at * 1000) / durationMs)
  const filled = Math.round(part * barWidth)
  const rows: [string, string][] = [
    ['rate', `${second.sent} msg/s of ${second.due} due, ${counts.sent} sent in all`],
    ['acknowledged', `${second.accepted} msg/s, ${counts.accepted} in all`],
    ['in flight', `${second.inFlight}, ${second.waiting} waiting`],
    ['connections', `${second.connected} of ${devices}`],
    ['p50, p99', `${ms(second.p50)}, ${ms(second.p99)}  ${spark(recent)}`],
    ['errors', errorText(errors)],
  ]
  const state =
    part < 1 ? `${second.at} of ${Math.round(durationMs / 1000)} s` : 'all sent, waiting for the last answers'
  return [
    title,
    `${'█'.repeat(filled)}${'░'.repeat(barWidth - filled)}  ${state}`,
    ...rows.map(([name, value]) => `${name.padEnd(14)}${value}`),
  ]
}

/** The p99 of the last seconds, on a logarithmic scale from 1 ms to 10 s. */
function spark(values: readonly number[]): string {
  return values
    .map((value) => sparks[Math.max(0, Math.min(7, Math.floor((Math.log10(Math.max(1, value)) / 4) * 8)))])
    .join('')
}

function errorText(errors: ReadonlyMap<string, number>): string {
  if (errors.size === 0) return 'none'
  const sorted = [...errors].sort(([, one], [, other]) => other - one)
  return sorted
    .slice(0, 4)
    .map(([code, count]) => `${code} ${count}`)
    .join(', ')
}

function ms(value: number | null): string {
  return value === null ? '-' : `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`
}
