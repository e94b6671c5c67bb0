import { type Audit, auditText } from '../audit/audit.ts'
import type { Percentiles } from '../tally.ts'
import type { FleetsResult } from './run-fleets.ts'
import type { Counts, Second } from './series.ts'

/** What a run of a scenario came to; `--json` writes it as it is. */
export interface FleetReport {
  readonly run: string
  readonly scenario: string
  readonly seed: number
  readonly devices: number
  readonly startedAt: string
  readonly durationMs: number
  /** Messages a second. */
  readonly rate: { readonly asked: number; readonly reached: number }
  readonly counts: Counts
  /** Due, and without an answer in the end. */
  readonly waiting: number
  /** Refusals, retries and lost connections, by code. */
  readonly errors: Readonly<Record<string, number>>
  /** From the moment at which a message was due, but for those that their own devices delayed: absences and their backlogs, late ones. */
  readonly ackMs: Percentiles | null
  readonly self: {
    readonly processes: number
    readonly cpuUsPerMessage: number
    readonly memoryBytes: number
    /** How late the simulator was with its own messages. */
    readonly paceMs: Percentiles | null
  }
  readonly seconds: readonly Second[]
  readonly journals: readonly string[]
  /** Null when nothing was compared. */
  readonly audit: Audit | null
  readonly ok: boolean
}

export function fleetReport(
  run: { run: string; scenario: string; seed: number; devices: number; startedUs: number; processes: number },
  result: FleetsResult,
  audit: Audit | null,
): FleetReport {
  const { counts, sendingMs } = result
  return {
    run: run.run,
    scenario: run.scenario,
    seed: run.seed,
    devices: run.devices,
    startedAt: new Date(run.startedUs / 1000).toISOString(),
    durationMs: sendingMs,
    rate: { asked: (counts.due * 1000) / sendingMs, reached: (counts.sent * 1000) / sendingMs },
    counts,
    waiting: result.waiting,
    errors: Object.fromEntries(result.errors),
    ackMs: result.answers.percentiles(),
    self: {
      processes: run.processes,
      cpuUsPerMessage: counts.sent === 0 ? 0 : result.cpuUs / counts.sent,
      memoryBytes: result.memoryBytes,
      paceMs: result.pace.percentiles(),
    },
    seconds: result.seconds,
    journals: result.journals,
    audit,
    ok: audit?.ok ?? true,
  }
}

/** The summary for people. */
export function fleetReportText(report: FleetReport): string {
  const { counts, ackMs, self, errors, rate } = report
  const lines: [string, string][] = [
    ['run', `${report.run}: ${report.scenario}, ${report.devices} devices, seed ${report.seed}`],
    [
      'rate',
      `${rate.reached.toFixed(0)} msg/s of ${rate.asked.toFixed(0)} asked, for ${(report.durationMs / 1000).toFixed(1)} s`,
    ],
    ['sent', `${counts.sent} of ${counts.due} due${counts.resent > 0 ? `, ${counts.resent} of them again` : ''}`],
    [
      'acknowledged',
      `${counts.accepted}${counts.unanswered > 0 ? `, and ${counts.unanswered} with QoS 0, which nobody acknowledges` : ''}`,
    ],
    ['parked, refused', `${counts.parked}, ${counts.refused}`],
  ]
  if (report.waiting > 0) lines.push(['unanswered', `${report.waiting}`])
  if (Object.keys(errors).length > 0)
    lines.push([
      'errors',
      Object.entries(errors)
        .sort(([, one], [, other]) => other - one)
        .map(([code, count]) => `${code} ${count}`)
        .join(', '),
    ])
  if (ackMs !== null)
    lines.push([
      'acknowledged in',
      `p50 ${ms(ackMs.p50)}, p90 ${ms(ackMs.p90)}, p99 ${ms(ackMs.p99)}, max ${ms(ackMs.max)}, of messages that their devices did not delay`,
    ])
  lines.push([
    'simulator',
    `${self.cpuUsPerMessage.toFixed(0)} µs CPU a message, ${(self.memoryBytes / 1e6).toFixed(0)} MB${self.processes > 1 ? ` in ${self.processes} processes` : ''}`,
  ])
  const width = Math.max(...lines.map(([name]) => name.length))
  const text = lines.map(([name, value]) => `${name.padEnd(width)}  ${value}`)
  if (self.paceMs !== null && self.paceMs.p99 > 20)
    text.push(`warning: the simulator was late itself (p99 ${ms(self.paceMs.p99)}); the times above include that`)
  text.push('', report.audit === null ? 'not compared with the rows' : auditText(report.audit))
  return text.join('\n')
}

function ms(value: number): string {
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`
}
