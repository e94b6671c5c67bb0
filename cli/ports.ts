import { BridgeError } from '#platform/errors.ts'
import { isFree } from '#platform/free-port.ts'

export interface WantedPort {
  /** The setting that moves it. */
  readonly variable: string
  readonly host: string
  readonly port: number
}

/** Before anything else starts. @throws BridgeError BRIDGE_PORT_IN_USE that names the variable */
export async function needPorts(wanted: readonly WantedPort[]): Promise<void> {
  for (const one of wanted) if (one.port !== 0 && !(await isFree(one.port, one.host))) throw inUse(one)
}

/** The same for a port that was taken between the look and the start. */
export function asPortError(error: unknown, wanted: readonly WantedPort[]): unknown {
  for (let inner = error; inner instanceof Error; inner = inner.cause) {
    const { code, port } = inner as NodeJS.ErrnoException & { port?: number }
    const one = wanted.find((candidate) => candidate.port === port)
    if ((code === 'EADDRINUSE' || code === 'EACCES') && one !== undefined) return inUse(one, error)
  }
  return error
}

function inUse({ variable, host, port }: WantedPort, cause?: unknown): BridgeError {
  const why = port < 1024 && process.getuid?.() !== 0 ? 'is in use, or needs root since it is below 1024' : 'is in use'
  return new BridgeError(
    'BRIDGE_PORT_IN_USE',
    `port ${port} on ${host} ${why}. Stop what has it (ss -ltnp "sport = :${port}"), or choose another: ${variable}=${port + 10_000 > 65_535 ? 0 : port + 10_000}`,
    { details: { port, variable }, ...(cause !== undefined && { cause }) },
  )
}
