import { styleText } from 'node:util'
import type { Verdict } from './check.ts'
import type { CheckReport } from './run-checks.ts'

const marks = { ok: '✓', warn: '!', fail: '✗' } as const
const colours = { ok: 'green', warn: 'yellow', fail: 'red' } as const
const exitCodes = { ok: 0, warn: 1, fail: 2 } as const

export function exitCodeOf(verdict: Verdict): 0 | 1 | 2 {
  return exitCodes[verdict]
}

/** A line a finding; below it what to do, and the line to paste after a `$`. Without colours where the stream is no terminal, or by NO_COLOR. */
export function reportText(reports: readonly CheckReport[], stream: NodeJS.WriteStream): string {
  const width = Math.max(0, ...reports.map(({ name }) => name.length))
  const indent = ' '.repeat(width + 4)
  const lines: string[] = []
  for (const { name, findings } of reports)
    for (const { verdict, seen, advice, line } of findings) {
      lines.push(`${styleText(colours[verdict], marks[verdict], { stream })} ${name.padEnd(width)}  ${plain(seen)}`)
      if (advice !== undefined) lines.push(`${indent}${plain(advice)}`)
      if (line !== undefined) lines.push(`${indent}$ ${line}`)
    }
  const count = (wanted: Verdict) =>
    reports.flatMap(({ findings }) => findings).filter(({ verdict }) => verdict === wanted).length
  return [...lines, '', `${count('ok')} ok, ${count('warn')} to look at, ${count('fail')} to mend`].join('\n')
}

/** What servers say may hold anything; it stays on its line, and commands no terminal. */
function plain(text: string): string {
  return text.replace(/\s+/g, ' ').replace(/\p{Cc}/gu, '?')
}
