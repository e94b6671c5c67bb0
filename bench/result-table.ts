import type { Measured } from './measure.ts'

/** Measurements side by side, as lines of text: one column each. */
export function resultTable(measured: readonly Measured[]): string {
  const processes = [...new Set(measured.flatMap(({ cpuUs }) => Object.keys(cpuUs)))]
  const memory = ['gateway', 'worker']
  const rows: (readonly [string, (one: Measured) => string])[] = [
    ['asked, msg/s', ({ report }) => (report.rate.asked === null ? 'closed loop' : String(report.rate.asked))],
    ['devices', ({ report }) => String(report.devices)],
    ['acknowledged, msg/s', ({ messagesPerSecond }) => messagesPerSecond.toFixed(0)],
    ['acknowledged', ({ report }) => String(report.acked)],
    ['unacknowledged', ({ report }) => String(report.unacked)],
    ['refused', ({ report }) => String(report.refused)],
    ['ack p50, ms', ({ report }) => ms(report.ackMs?.p50)],
    ['ack p99, ms', ({ report }) => ms(report.ackMs?.p99)],
    ['ack max, ms', ({ report }) => ms(report.ackMs?.max)],
    ['rows', ({ report }) => text(report.rows)],
    ['rows a second', ({ rowsPerSecond }) => (rowsPerSecond === null ? '-' : rowsPerSecond.toFixed(0))],
    ['acknowledged without row', ({ report }) => text(report.missing)],
    ['doubled', ({ report }) => text(report.doubled)],
    [
      'messages unstored at the end',
      ({ report }) => (report.storedAtEnd === undefined ? '-' : String(Math.max(0, report.acked - report.storedAtEnd))),
    ],
    [
      'all stored after, ms',
      ({ report }) => (report.settledAfterMs === undefined ? '-' : ms(report.settledAfterMs ?? undefined)),
    ],
    ...processes.map((name) => [`CPU µs/message: ${name}`, (one: Measured) => ms(one.cpuUs[name])] as const),
    ...memory.map((name) => [`memory, MB: ${name}`, (one: Measured) => ms(one.memoryMb[name])] as const),
    ['cores busy with other things', ({ otherCores }) => otherCores.toFixed(2)],
    ['load generator kept pace', ({ report }) => (report.self.keptPace ? 'yes' : 'NO')],
  ]
  const cells = [['', ...measured.map(({ name }) => name)], ...rows.map(([name, of]) => [name, ...measured.map(of)])]
  const widths = measured.map((_, column) => Math.max(...cells.map((row) => (row[column + 1] as string).length)))
  const first = Math.max(...cells.map((row) => (row[0] as string).length))
  return cells
    .map(([name = '', ...values]) =>
      [name.padEnd(first), ...values.map((value, column) => value.padStart(widths[column] as number))].join('  '),
    )
    .join('\n')
}

function ms(value: number | undefined): string {
  return value === undefined ? '-' : value.toFixed(value < 100 ? 1 : 0)
}

function text(value: number | undefined): string {
  return value === undefined ? '-' : String(value)
}
