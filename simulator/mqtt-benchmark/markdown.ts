import type { Measured } from './measure.ts'

/** Measurements as a Markdown table, a line each. */
export function markdownOf(measured: readonly Measured[]): string {
  const processes = [...new Set(measured.flatMap(({ cpuUs }) => Object.keys(cpuUs)))]
  const columns: (readonly [string, (one: Measured) => string])[] = [
    ['target', ({ target }) => target],
    ['clients', ({ setting }) => String(setting.clients)],
    ['QoS', ({ setting }) => String(setting.qos)],
    ['bytes', ({ setting }) => String(setting.size)],
    ['every s', ({ setting }) => (setting.intervalSeconds === 0 ? 'at once' : String(setting.intervalSeconds))],
    ['msg/s', ({ messagesPerSecond }) => messagesPerSecond.toFixed(0)],
    ['acknowledged', ({ acknowledged }) => String(acknowledged)],
    ['failed', ({ failed }) => String(failed)],
    ['rows', ({ rows }) => (rows === null ? '-' : String(rows))],
    ['mean ms', ({ meanMs }) => meanMs.toFixed(2)],
    ['max ms', ({ maxMs }) => maxMs.toFixed(1)],
    ...processes.map(
      (name) => [`CPU µs/msg: ${name}`, ({ cpuUs }: Measured) => cpuUs[name]?.toFixed(1) ?? '-'] as const,
    ),
  ]
  const lines = [
    columns.map(([name]) => name),
    columns.map(([name]) => (name === 'target' ? '---' : '---:')),
    ...measured.map((one) => columns.map(([, of]) => of(one))),
  ]
  return lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

/** The first target's rate against each other's, setting by setting. */
export function ratiosOf(measured: readonly Measured[]): string {
  const [first] = measured
  return measured
    .filter(({ target }) => target !== first?.target)
    .map(
      ({ target, messagesPerSecond }) =>
        `${first?.target} takes ${((first?.messagesPerSecond ?? 0) / messagesPerSecond).toFixed(2)} times the messages a second of ${target}.`,
    )
    .join('\n')
}

/** An acknowledged QoS 1 or 2 message without its row is the one thing that must not be. */
export function missingRows(measured: readonly Measured[]): number {
  return measured.reduce(
    (missing, { rows, acknowledged, setting }) =>
      rows === null || setting.qos === 0 ? missing : missing + Math.max(0, acknowledged - rows),
    0,
  )
}
