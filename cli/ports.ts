import { createServer } from 'node:net'
import { type ListenOptions, listen } from '#platform/listen.ts'

/**
 * Looks before anything else starts, so that a used port costs no start of a database.
 * @throws BridgeError BRIDGE_PORT_IN_USE that names the variable
 */
export async function needPorts(wanted: readonly ListenOptions[]): Promise<void> {
  for (const options of wanted) {
    const server = createServer()
    await listen(server, options)
    await new Promise((resolve) => server.close(resolve))
  }
}
