import { BridgeError } from '#platform/errors.ts'
import { handleOf } from '#platform/handle.ts'
import { Fifo } from './fifo.ts'
import { HttpConnection } from './http-connection.ts'
import type { Outbox } from './outbox.ts'
import type { DeviceLogin, Transport } from './transport.ts'

export interface HttpFleetOptions {
  readonly host: string
  readonly port: number
  readonly logins: readonly DeviceLogin[]
  readonly outbox: Outbox
  readonly random: () => number
  /** Connections that the whole fleet shares; each carries one request at a time. */
  readonly connections?: number
}

const firstRetryMs = 100
const longestRetryMs = 3000
const requestTimeoutMs = 15_000
/** Answers that say nothing about the message itself, so that it is sent again. */
const passing: ReadonlySet<number> = new Set([408, 429, 500, 502, 503, 504])

/** One request that is under way, or waits for its next try: a device's message. */
interface Attempt {
  readonly device: number
  readonly number: number
  failures: number
}

/**
 * One POST to /v1/telemetry a message, over a bounded number of kept connections. What fails for a passing reason (no connection, 503,
 * 429) is sent again, with the same number and time.
 */
export function createHttpFleet(options: HttpFleetOptions): Transport {
  const { logins, outbox, random, host, port } = options
  const { tally } = outbox
  const connections = options.connections ?? Math.min(64, Math.max(4, logins.length))
  const heads = logins.map(
    ({ token }) =>
      `POST /v1/telemetry HTTP/1.1\r\nhost: ${host}:${port}\r\nauthorization: Bearer ${token}\r\ncontent-type: application/json\r\ncontent-length: `,
  )
  const all: HttpConnection[] = []
  const idle: HttpConnection[] = []
  const ready = new Fifo()
  const again: Attempt[] = []
  const waiting = new Set<NodeJS.Timeout>()
  /** Messages that wait without a connection of theirs. */
  let apart = 0
  let closed = false
  let expiring: NodeJS.Timeout | undefined

  function pump(): void {
    while (!closed) {
      const connection = idle.pop() ?? another()
      if (connection === undefined) return
      const attempt = again.shift() ?? fresh()
      if (attempt === undefined) {
        idle.push(connection)
        return
      }
      post(connection, attempt)
    }
  }

  function another(): HttpConnection | undefined {
    if (all.length === connections) return undefined
    const connection = new HttpConnection(host, port)
    all.push(connection)
    return connection
  }

  function fresh(): Attempt | undefined {
    for (;;) {
      const device = ready.shift()
      if (device === undefined) return undefined
      const number = outbox.take(device)
      if (number > 0) return { device, number, failures: 0 }
    }
  }

  function post(connection: HttpConnection, attempt: Attempt): void {
    const { device, number } = attempt
    connection.send(requestOf(device, outbox.body(device, number)), (status, head, body) => {
      if (closed) return
      if (status >= 200 && status < 300 && status !== 207) {
        outbox.acknowledged(device, number)
        free(connection, device)
      } else if (status !== 0 && !passing.has(status)) {
        outbox.refused(device, number, codeText(status, body))
        free(connection, device)
      } else retry(connection, attempt, status, head, body)
    })
  }

  function requestOf(device: number, body: string): string {
    return `${heads[device]}${body.length}\r\n\r\n${body}`
  }

  function free(connection: HttpConnection, device: number): void {
    idle.push(connection)
    if (outbox.endless) ready.push(device)
    pump()
  }

  function retry(connection: HttpConnection, attempt: Attempt, status: number, head: string, body: string): void {
    if (status === 0) tally.connectionError(body)
    else tally.refused(codeText(status, body))
    // A device over its limit must not keep the others waiting, but when the other side is gone every connection waits with its message:
    // the rest stays due, and nothing piles up.
    const ofDeviceOnly = status === 429
    const longest = Math.min(longestRetryMs, firstRetryMs * 2 ** attempt.failures++)
    const timer = setTimeout(
      () => {
        waiting.delete(timer)
        tally.resent++
        if (!ofDeviceOnly) return post(connection, attempt)
        apart--
        again.push(attempt)
        pump()
      },
      Math.max(retryAfterMs(head), longest * (0.5 + random() / 2)),
    )
    waiting.add(timer)
    if (!ofDeviceOnly) return
    apart++
    idle.push(connection)
    pump()
  }

  /** `{}` decodes to no readings, so it is answered like a message and stored as nothing. */
  async function signIn(timeoutMs: number): Promise<void> {
    const deadline = performance.now() + timeoutMs
    const last = logins.length - 1
    const connection = another() as HttpConnection
    expiring = setInterval(() => {
      const now = performance.now()
      for (const one of all) one.expire(now, requestTimeoutMs)
    }, 1000)
    for (;;) {
      const { status, body } = await new Promise<{ status: number; body: string }>((resolve) => {
        connection.send(requestOf(last, '{}'), (answered, _head, text) => resolve({ status: answered, body: text }))
      })
      if (status >= 200 && status < 300) break
      if (performance.now() > deadline)
        throw new BridgeError(
          'BRIDGE_NOT_RUNNING',
          `no device got in at http://${host}:${port} within ${timeoutMs / 1000} s: ${status === 0 ? body : codeText(status, body)}`,
        )
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
    idle.push(connection)
  }

  return {
    protocol: 'http',
    start: signIn,
    send(device) {
      ready.push(device)
      if (idle.length > 0 || all.length < connections) pump()
    },
    inFlight: () => all.length - idle.length + apart + again.length,
    connected: () => logins.length,
    ...handleOf(async () => {
      closed = true
      clearInterval(expiring)
      for (const timer of waiting) clearTimeout(timer)
      for (const connection of all) connection.close()
    }),
  }
}

/** The status, and the `code` of a problem document (RFC 9457), which tells refusals apart. */
function codeText(status: number, body: string): string {
  const code = /"code"\s*:\s*"([a-z0-9_]{1,64})"/.exec(body)?.[1]
  return code === undefined ? String(status) : `${status} ${code}`
}

function retryAfterMs(head: string): number {
  const seconds = Number(/\r\nretry-after: *(\d+)/i.exec(head)?.[1] ?? 0)
  return Math.min(seconds, 60) * 1000
}
