import type { Reporter, TestCase, TestModule } from 'vitest/node'

const slowest = 10

/** After the whole run: what failed, in a line each, what passed only at its second try, and which files took longest. */
export default class SummaryReporter implements Reporter {
  private readonly retried: string[] = []
  private readonly failed: string[] = []

  onTestCaseResult(test: TestCase): void {
    const { state, errors } = test.result()
    const line = () => `${test.module.relativeModuleId} > ${test.fullName}: ${firstLine(errors?.[0]?.message)}`
    if (state === 'failed') this.failed.push(line())
    else if (test.diagnostic()?.flaky === true) this.retried.push(line())
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    const seconds = (module: TestModule) => module.diagnostic().duration / 1000
    const longest = modules.toSorted((one, other) => seconds(other) - seconds(one)).slice(0, slowest)
    if (modules.length > slowest)
      list(
        'longest files',
        longest.map((module) => `${seconds(module).toFixed(1)} s ${module.relativeModuleId}`),
      )
    for (const module of modules) {
      // Of an import, or of a hook that runs once for several tests: no test has them.
      const errors = [module, ...module.children.allSuites()].flatMap((one) => one.errors())
      this.failed.push(...errors.map(({ message }) => `${module.relativeModuleId}: ${firstLine(message)}`))
    }
    list('passed only at the second try', this.retried)
    list('failed', this.failed)
  }
}

function list(title: string, lines: readonly string[]): void {
  if (lines.length > 0) console.info(`\n${title}:\n${lines.map((line) => `  ${line}`).join('\n')}`)
}

function firstLine(message = 'no message'): string {
  return (message.split('\n')[0] as string).slice(0, 300)
}
