import { connect } from 'node:net'

export const apiVersionsKey = 18

const maxResponseBytes = 16 * 1024 * 1024

/** A request with header version 1: what stands before the body in every request of Kafka's protocol. */
export function requestBytes(apiKey: number, apiVersion: number, body: Buffer): Buffer {
  const clientId = Buffer.from('fleetbridge')
  const header = Buffer.alloc(4 + 2 + 2 + 4 + 2)
  header.writeInt32BE(header.length - 4 + clientId.length + body.length, 0)
  header.writeInt16BE(apiKey, 4)
  header.writeInt16BE(apiVersion, 6)
  header.writeInt32BE(1, 8)
  header.writeInt16BE(clientId.length, 12)
  return Buffer.concat([header, clientId, body])
}

/** Sends one request and returns the response after its correlation id, over a connection of its own. */
export function exchange(broker: string, bytes: Buffer, timeoutMs: number): Promise<Buffer> {
  const colon = broker.lastIndexOf(':')
  const host = broker.slice(0, colon).replace(/^\[|\]$/g, '')
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port: Number(broker.slice(colon + 1)) })
    const chunks: Buffer[] = []
    let received = 0
    let expected = -1
    const timer = setTimeout(() => socket.destroy(new Error(`${broker} did not answer in ${timeoutMs} ms`)), timeoutMs)
    socket.on('connect', () => socket.write(bytes))
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      received += chunk.length
      if (expected < 0 && received >= 4) expected = 4 + Buffer.concat(chunks).readInt32BE(0)
      if (expected > maxResponseBytes) socket.destroy(new Error(`${broker} does not answer like Kafka`))
      else if (expected >= 8 && received >= expected) {
        resolve(Buffer.concat(chunks).subarray(8, expected))
        socket.destroy()
      }
    })
    socket.on('error', reject)
    socket.on('close', () => {
      clearTimeout(timer)
      reject(new Error(`${broker} closed the connection`)) // has no effect after an answer
    })
  })
}

/**
 * Whether one of the brokers answers at all (ApiVersions). A frozen broker still accepts connections, so that alone says nothing.
 * @throws Error of the last broker when none answers within the time
 */
export async function pingBrokers(brokers: readonly string[], timeoutMs: number): Promise<void> {
  const ask = requestBytes(apiVersionsKey, 0, Buffer.alloc(0))
  try {
    await Promise.any(brokers.map((broker) => exchange(broker, ask, timeoutMs)))
  } catch (error) {
    throw error instanceof AggregateError ? error.errors.at(-1) : error
  }
}
