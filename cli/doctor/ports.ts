import { createServer } from 'node:net'
import type { Config } from '#platform/config-schema.ts'
import { BridgeError } from '#platform/errors.ts'
import { type ListenOptions, listen } from '#platform/listen.ts'
import { devicePorts, opsPort } from '../addresses.ts'
import { type Check, type DoctorContext, type Finding, fail, ok } from './check.ts'
import { ownerOfPort } from './port-owner.ts'

export const ports: Check = {
  name: 'ports',
  async run({ config, instance }) {
    const findings: Finding[] = []
    const free: string[] = []
    for (const options of wantedPorts(config)) {
      if (options.port === 0) continue // the start picks a free one
      const problem = await problemWith(options)
      if (problem === undefined) free.push(`${options.variable} ${options.port}`)
      else findings.push(explained(options, problem, instance))
    }
    return free.length === 0 ? findings : [ok(`free: ${free.join(', ')}`), ...findings]
  },
}

/** What `up`, or a gateway and a worker side by side, would open. */
function wantedPorts(config: Config): ListenOptions[] {
  const { host, port } = config.ops
  const isShared = config.kafka.brokers !== undefined && config.database.url !== undefined
  const ops = [opsPort(port, 'gateway'), ...(isShared && port === undefined ? [opsPort(port, 'worker')] : [])]
  return [
    ...devicePorts(config),
    ...ops.map((number) => ({ variable: 'BRIDGE_OPS_PORT', host, port: number })),
    { variable: 'BRIDGE_ADMIN_PORT', ...config.admin },
  ]
}

async function problemWith(options: ListenOptions): Promise<BridgeError | undefined> {
  const server = createServer()
  try {
    await listen(server, options)
    await new Promise((resolve) => server.close(resolve))
    return undefined
  } catch (error) {
    if (error instanceof BridgeError) return error
    throw error
  }
}

function explained(
  { variable, port }: ListenOptions,
  { code, message, cause }: BridgeError,
  instance: DoctorContext['instance'],
): Finding {
  if (code !== 'BRIDGE_PORT_IN_USE' || (cause as NodeJS.ErrnoException).code !== 'EADDRINUSE') return fail(message)
  const owner = ownerOfPort(port)
  const name = `${variable} ${port}`
  if (owner === undefined)
    return fail(
      `${name} is in use, by a process that this user cannot see`,
      undefined,
      `sudo ss -ltnp "sport = :${port}"`,
    )
  const { pid, command } = owner
  if (pid === instance?.pids.fleetbridge) return ok(`${name} is our running instance's, process ${pid}`)
  if (/fleetbridge(\.js)? (up|gateway|worker)\b/.test(command))
    return ok(`${name} is another fleetbridge's, process ${pid} (${command})`)
  return fail(
    `${name} is in use by process ${pid} (${command})`,
    `Stop that one, or choose another port in ${variable}.`,
  )
}
