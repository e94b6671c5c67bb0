import { type Check, type DoctorContext, type Finding, fail, ServerAway, type Verdict, warn, worst } from './check.ts'

/** What one check saw. */
export interface CheckReport {
  readonly name: string
  readonly verdict: Verdict
  readonly findings: readonly Finding[]
}

const limitMs = 10_000

/**
 * Runs all side by side, and returns their reports in the order of the checks. None takes longer than the limit, and none keeps another
 * from its result.
 */
export function runChecks(
  checks: readonly Check[],
  context: DoctorContext,
  timeLimitMs = limitMs,
): Promise<readonly CheckReport[]> {
  return Promise.all(
    checks.map(async (check) => {
      const findings = await findingsOf(check, context, timeLimitMs)
      return { name: check.name, verdict: worst(findings.map(({ verdict }) => verdict)), findings }
    }),
  )
}

async function findingsOf(check: Check, context: DoctorContext, timeLimitMs: number): Promise<readonly Finding[]> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<readonly Finding[]>((resolve) => {
    timer = setTimeout(() => resolve([tooLate(timeLimitMs)]), timeLimitMs)
  })
  try {
    return await Promise.race([Promise.resolve(context).then((given) => check.run(given)), late])
  } catch (error) {
    if (error instanceof ServerAway) return [warn(`not checked: ${error.server} does not answer`, error.advice)]
    return [fail(`could not be checked: ${textOf(error)}`)]
  } finally {
    clearTimeout(timer)
  }
}

function tooLate(timeLimitMs: number): Finding {
  return fail(
    `no result within ${timeLimitMs / 1000} s`,
    'A server accepts connections and does not answer: it is frozen, overloaded, or a firewall drops its packets.',
  )
}

export function textOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(textOf).join('; ')
  if (!(error instanceof Error)) return String(error)
  return error.message || (error as NodeJS.ErrnoException).code || error.name
}
