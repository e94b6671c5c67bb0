import {
  type CaseReading,
  type CaseResult,
  type DecodeCase,
  inOrder,
  isExpected,
  runCase,
} from '#gateway/normalize/decode-case.ts'
import type { Routes } from '#gateway/routes/route-table.ts'

export interface CaseFailure {
  readonly file: string
  readonly id: string
  /** One line. */
  readonly difference: string
}

export interface CaseFile {
  readonly name: string
  readonly cases: readonly DecodeCase[]
}

/** Runs all cases of all files, whatever fails. */
export function runCases(
  files: readonly CaseFile[],
  routes?: Routes,
): { passed: number; failures: readonly CaseFailure[] } {
  const failures: CaseFailure[] = []
  let passed = 0
  for (const { name, cases } of files)
    for (const example of cases) {
      const difference = differenceOf(example, routes)
      if (difference === undefined) passed++
      else failures.push({ file: name, id: example.id, difference })
    }
  return { passed, failures }
}

function differenceOf(example: DecodeCase, routes: Routes | undefined): string | undefined {
  try {
    const { result } = runCase(example, routes)
    return isExpected(result, example.expect) ? undefined : difference(result, example.expect)
  } catch (error) {
    return `the decoder failed: ${error instanceof Error ? error.message : String(error)}`
  }
}

/** What is missing behind `-`, what should not be there behind `+`. */
function difference(result: CaseResult, expected: CaseResult): string {
  if ('error' in result || 'error' in expected)
    return `expected ${JSON.stringify(expected)}, got ${JSON.stringify(result)}`
  const left = linesOf(expected)
  const right = linesOf(result)
  return [...without(left, right).map((line) => `- ${line}`), ...without(right, left).map((line) => `+ ${line}`)].join(
    ' ',
  )
}

function linesOf(result: CaseResult): string[] {
  const sorted = inOrder(result)
  return 'error' in sorted ? [] : sorted.readings.map(lineOf)
}

function lineOf({ device, metric, value, unit, ts }: CaseReading): string {
  return JSON.stringify({ device, metric, value, unit, ts })
}

function without(lines: readonly string[], others: readonly string[]): string[] {
  const left = [...others]
  return lines.filter((line) => {
    const at = left.indexOf(line)
    if (at >= 0) left.splice(at, 1)
    return at < 0
  })
}
