import { loadConfig } from '#platform/config.ts'
import type { Check, DoctorContext, Finding } from './check.ts'
import { createContext } from './context.ts'

/** What a check sees under these settings, with the clock moved by so much. */
export async function findingsOf(
  check: Check,
  environment: NodeJS.ProcessEnv,
  aheadMs = 0,
): Promise<readonly Finding[]> {
  // A folder that is not there: tests that want an instance name their own.
  await using context = createContext(loadConfig({ BRIDGE_DATA_DIR: '/nonexistent/fleetbridge', ...environment }))
  const shifted: DoctorContext = { ...context, now: () => Date.now() + aheadMs }
  return await check.run(shifted)
}

/** `fail: seen | line`: what tests compare with. */
export function shortened(findings: readonly Finding[]): string[] {
  return findings.map(({ verdict, seen, line }) =>
    line === undefined ? `${verdict}: ${seen}` : `${verdict}: ${seen} | ${line}`,
  )
}
