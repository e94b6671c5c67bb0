import { styleText } from 'node:util'
import { BridgeError } from '#platform/errors.ts'

/**
 * Tells a person (or, with --json, a program) what went wrong, on standard error.
 * @returns the exit code: 2 when the command's words are off, else 1
 */
export function reportError(error: unknown): 1 | 2 {
  const known = error instanceof BridgeError
  const code = known ? error.code : 'BRIDGE_INTERNAL'
  const message = known ? error.message : foreign(error)
  if (process.argv.includes('--json')) process.stderr.write(`${JSON.stringify({ error: { code, message } })}\n`)
  else process.stderr.write(`${styleText('red', `error ${code}`, { stream: process.stderr })}: ${message}\n`)
  return code === 'BRIDGE_USAGE' ? 2 : 1
}

/** What a library threw. A connection that failed on every address has its words in the parts alone. */
function foreign(error: unknown): string {
  if (error instanceof AggregateError && error.message === '')
    return error.errors.map((part: unknown) => (part instanceof Error ? part.message : String(part))).join('; ')
  if (!(error instanceof Error)) return String(error)
  const { code } = error as NodeJS.ErrnoException
  // A system error is about the machine, not about us: its stack says nothing to whoever reads it.
  if (code !== undefined) return error.message || code
  return error.stack ?? error.message
}
