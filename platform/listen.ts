import type { AddressInfo, Server } from 'node:net'
import { BridgeError } from './errors.ts'

export interface ListenOptions {
  readonly host: string
  /** 0 picks a free one. */
  readonly port: number
  /** The setting that moves the port, for the error's text. */
  readonly variable: string
}

/**
 * Listens, and resolves with the port.
 * @throws {BridgeError} BRIDGE_PORT_IN_USE that names the variable; BRIDGE_CONFIG_INVALID when this machine has no such address
 */
export function listen(server: Server, options: ListenOptions): Promise<number> {
  const { host, port } = options
  return new Promise((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException) => {
      server.off('listening', listening)
      reject(explained(error, options))
    }
    const listening = () => {
      server.off('error', failed)
      resolve((server.address() as AddressInfo).port)
    }
    server.once('error', failed)
    server.once('listening', listening)
    server.listen({ host, port })
  })
}

function explained(error: NodeJS.ErrnoException, { host, port, variable }: ListenOptions): unknown {
  const more = { cause: error, details: { port, variable } }
  const { code } = error
  if (code === 'EADDRINUSE')
    return new BridgeError(
      'BRIDGE_PORT_IN_USE',
      `port ${port} on ${host} is in use. Stop what has it (ss -ltnp "sport = :${port}"), or choose another: ${variable}=${otherPort(port)}`,
      more,
    )
  if (code === 'EACCES')
    return new BridgeError(
      'BRIDGE_PORT_IN_USE',
      `port ${port} on ${host} is not for this user: those below 1024 need root. Choose another: ${variable}=${otherPort(port)}`,
      more,
    )
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND' || code === 'EAI_AGAIN')
    return new BridgeError(
      'BRIDGE_CONFIG_INVALID',
      `this machine has no address ${host} to listen on: ${variable.replace(/PORT$/, 'HOST')}`,
      more,
    )
  return error
}

function otherPort(port: number): number {
  return port + 10_000 > 65_535 ? 0 : port + 10_000
}
