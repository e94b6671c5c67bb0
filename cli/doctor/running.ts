import { opsPort, reachableHost } from '../addresses.ts'
import { type Check, type DoctorContext, type Finding, fail, ok } from './check.ts'
import { textOf } from './run-checks.ts'

const answerMs = 7000

/** What the processes that run here say of themselves: the instance of the data folder, or gateway and worker on their ops ports. */
export const running: Check = {
  name: 'running',
  async run(context) {
    const addresses = opsAddresses(context)
    const findings = (await Promise.all(addresses.map(readiness))).filter((finding) => finding !== undefined)
    if (findings.length > 0) return findings
    const { instance } = context
    if (instance === undefined) return [ok('nothing runs here')]
    return [
      fail(
        `process ${instance.pids.fleetbridge} runs, and its ops listener ${instance.ops} does not answer`,
        'It starts, stops or hangs: its log says what it waits for.',
      ),
    ]
  },
}

function opsAddresses({ config: { ops, kafka, database }, instance }: DoctorContext): string[] {
  if (instance !== undefined) return instance.ops === null ? [] : [instance.ops]
  if (kafka.brokers === undefined || database.url === undefined) return []
  const numbers = new Set([opsPort(ops.port, 'gateway'), opsPort(ops.port, 'worker')])
  return [...numbers].filter((port) => port > 0).map((port) => `http://${reachableHost(ops.host)}:${port}`)
}

/** @returns undefined when nobody listens there */
async function readiness(address: string): Promise<Finding | undefined> {
  try {
    const answer = await fetch(`${address}/readyz`, { signal: AbortSignal.timeout(answerMs) })
    const text = (await answer.text()).slice(0, 500).trim()
    if (answer.ok) return ok(`${address}/readyz: ready`)
    if (answer.status !== 503 || !text.startsWith('{')) return undefined // another program's
    return fail(
      `${address}/readyz is not ready: ${text}`,
      'docs/operations.md says what each field means; the log says why.',
      `curl -s ${address}/readyz`,
    )
  } catch (error) {
    const { code } = ((error as Error).cause ?? {}) as NodeJS.ErrnoException
    if (code === 'ECONNREFUSED') return undefined
    return fail(
      `${address}/readyz does not answer: ${textOf(error)}`,
      'The process hangs or is overloaded: its log says more.',
    )
  }
}
