import type { Comparison } from './compare.ts'
import type { Percentiles } from './tally.ts'

/** What a run came to; `fleetbridge simulate --json` prints it as it is. */
export interface Report extends Partial<StoredReport> {
  readonly runId: string
  readonly protocol: 'mqtt' | 'http'
  readonly url: string
  readonly devices: number
  readonly seed: number
  /** Messages a second; `asked` is null in a closed loop. */
  readonly rate: { readonly asked: number | null; readonly reached: number }
  readonly durationMs: number
  readonly stopped: boolean
  /** Messages that were due, sent at least once, acknowledged, refused for good, and neither. */
  readonly due: number
  readonly sent: number
  readonly acked: number
  readonly refused: number
  readonly unacked: number
  /** Answers that were no, by code; a message may be refused and be taken at a later try. */
  readonly refusals: Readonly<Record<string, number>>
  readonly connectionErrors: Readonly<Record<string, number>>
  readonly reconnects: number
  readonly resent: number
  readonly ackMs: Percentiles | null
  /** The simulator itself: CPU, how late its own clock was, whether it kept its pace. */
  readonly self: { readonly cpuUsPerMessage: number; readonly paceMs: Percentiles | null; readonly keptPace: boolean }
  /** False when the rows were not looked at; the members of {@link StoredReport} are absent then. */
  readonly compared: boolean
  readonly ok: boolean
}

export interface StoredReport extends Comparison {
  /** Rows of the number metric when sending had ended. */
  readonly storedAtEnd: number
  /** Milliseconds from the last answer until every acknowledged message had its row; null when they never all had. */
  readonly settledAfterMs: number | null
}

/** The report for people. */
export function reportText(report: Report): string {
  const { ackMs, self } = report
  const stored = storedPart(report)
  const lines: [string, string][] = [
    ['run', `${report.runId}: ${report.devices} devices, ${report.protocol}, seed ${report.seed}`],
    ['rate', rateText(report)],
    [
      'sent',
      `${report.sent}${report.due > report.sent ? `, and ${report.due - report.sent} due that never left` : ''}`,
    ],
    ['acknowledged', `${report.acked}`],
    ['unacknowledged', `${report.unacked}`],
    ['refused', `${report.refused}${countsText(report.refusals)}`],
  ]
  if (report.reconnects > 0 || report.resent > 0 || Object.keys(report.connectionErrors).length > 0)
    lines.push([
      'connections',
      `${report.reconnects} reconnects, ${report.resent} messages sent again${countsText(report.connectionErrors)}`,
    ])
  if (ackMs !== null) lines.push(['acknowledged in', percentilesText(ackMs)])
  lines.push(['simulator', `${self.cpuUsPerMessage.toFixed(1)} µs CPU a message`])
  if (stored !== undefined) lines.push(...storedLines(stored))
  const width = Math.max(...lines.map(([name]) => name.length))
  const text = lines.map(([name, value]) => `${name.padEnd(width)}  ${value}`)
  if (stored !== undefined) for (const example of stored.examples) text.push(`  ${example}`)
  if (!self.keptPace && self.paceMs !== null)
    text.push(
      `warning: the simulator was up to ${self.paceMs.max.toFixed(0)} ms late itself (p99 ${self.paceMs.p99.toFixed(1)} ms); the times above include that`,
    )
  text.push(verdictText(report))
  return text.join('\n')
}

function storedPart(report: Report): StoredReport | undefined {
  return report.compared ? (report as Report & StoredReport) : undefined
}

function storedLines(stored: StoredReport): [string, string][] {
  const lines: [string, string][] = [
    [
      'rows',
      `${stored.rows}${stored.settledAfterMs === null ? '' : `, complete ${stored.settledAfterMs.toFixed(0)} ms after the last answer`}`,
    ],
    ['missing', `${stored.missing} acknowledged without all their rows`],
    ['doubled', `${stored.doubled}`],
    ['unacknowledged', `${stored.unackedButStored} of them stored`],
  ]
  if (stored.misplaced > 0)
    lines.push(['misplaced', `${stored.misplaced} rows with another time or value than was sent`])
  if (stored.foreign > 0) lines.push(['foreign', `${stored.foreign} rows that answer to no message`])
  if (stored.refusedButStored > 0) lines.push(['refused', `${stored.refusedButStored} of them stored`])
  return lines
}

function verdictText({ ok, compared, acked }: Report): string {
  if (!compared) return 'not compared with the rows'
  if (!ok) return 'FAILED: the rows are not what was sent and acknowledged'
  return acked === 0
    ? 'nothing was acknowledged, so nothing had to be stored'
    : 'every acknowledged message is stored exactly once'
}

function rateText({ rate, durationMs, stopped }: Report): string {
  const asked = rate.asked === null ? '' : ` of ${rate.asked} asked`
  return `${Math.round(rate.reached)} msg/s${asked}, for ${(durationMs / 1000).toFixed(1)} s${stopped ? ', stopped early' : ''}`
}

function percentilesText({ p50, p90, p99, p999, max }: Percentiles): string {
  const ms = (value: number) => (value < 10 ? value.toFixed(2) : value.toFixed(0))
  return `p50 ${ms(p50)}, p90 ${ms(p90)}, p99 ${ms(p99)}, p99.9 ${ms(p999)}, max ${ms(max)} ms, from the time at which each was due`
}

function countsText(counts: Readonly<Record<string, number>>): string {
  const entries = Object.entries(counts)
  return entries.length === 0 ? '' : ` (${entries.map(([code, count]) => `${code}: ${count}`).join(', ')})`
}
