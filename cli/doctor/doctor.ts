import { loadConfig } from '#platform/config.ts'
import type { Config } from '#platform/config-schema.ts'
import { print, printJson } from '../output.ts'
import { fail, worst } from './check.ts'
import { checks } from './checks.ts'
import { problemsOf } from './configuration.ts'
import { createContext } from './context.ts'
import { exitCodeOf, reportText } from './report.ts'
import { type CheckReport, runChecks } from './run-checks.ts'

export async function doctor({ json }: { json?: true }): Promise<never> {
  const reports = await examined()
  const verdict = worst(reports.map((report) => report.verdict))
  if (json) await printJson({ verdict, checks: reports })
  else await print(reportText(reports, process.stdout))
  // A server that is frozen would keep its connection, and with it this process.
  process.exit(exitCodeOf(verdict))
}

async function examined(): Promise<readonly CheckReport[]> {
  let config: Config
  try {
    config = loadConfig(process.env)
  } catch (error) {
    const advice = 'docs/configuration.md has every setting. The other checks need a configuration that can be read.'
    return [
      { name: 'configuration', verdict: 'fail', findings: problemsOf(error).map((problem) => fail(problem, advice)) },
    ]
  }
  await using context = createContext(config)
  return await runChecks(checks, context)
}
