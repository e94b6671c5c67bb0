import { Agent, type IncomingMessage, request } from 'node:http'
import { BridgeError } from '#platform/errors.ts'
import { handleOf } from '#platform/handle.ts'
import { Fifo } from './fifo.ts'
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
  const agent = new Agent({ keepAlive: true, maxSockets: connections, scheduling: 'fifo' })
  const authorization = logins.map(({ token }) => `Bearer ${token}`)
  const ready = new Fifo()
  const again: Attempt[] = []
  const waiting = new Set<NodeJS.Timeout>()
  let active = 0
  /** Messages that wait without a connection of theirs. */
  let apart = 0
  let closed = false

  function pump(): void {
    while (!closed && active < connections) {
      const attempt = again.shift() ?? fresh()
      if (attempt === undefined) return
      active++
      post(attempt)
    }
  }

  function fresh(): Attempt | undefined {
    for (;;) {
      const device = ready.shift()
      if (device === undefined) return undefined
      const number = outbox.take(device)
      if (number > 0) return { device, number, failures: 0 }
    }
  }

  function post(attempt: Attempt): void {
    const { device, number } = attempt
    send(authorization[device] as string, outbox.body(device, number), (status, code, waitMs) => {
      if (closed) return
      if (status >= 200 && status < 300 && status !== 207) {
        outbox.acknowledged(device, number)
        free(device)
      } else if (status !== 0 && !passing.has(status)) {
        outbox.refused(device, number, codeText(status, code))
        free(device)
      } else retry(attempt, status, code, waitMs)
    })
  }

  function free(device: number): void {
    active--
    if (outbox.endless) ready.push(device)
    pump()
  }

  function retry(attempt: Attempt, status: number, code: string, waitMs: number): void {
    if (status === 0) tally.connectionError(code)
    else tally.refused(codeText(status, code))
    // A device over its limit must not keep the others waiting, but when the other side is gone every connection waits with its message:
    // the rest stays due, and nothing piles up.
    const ofDeviceOnly = status === 429
    const longest = Math.min(longestRetryMs, firstRetryMs * 2 ** attempt.failures++)
    const timer = setTimeout(
      () => {
        waiting.delete(timer)
        tally.resent++
        if (!ofDeviceOnly) return post(attempt)
        apart--
        again.push(attempt)
        pump()
      },
      Math.max(waitMs, longest * (0.5 + random() / 2)),
    )
    waiting.add(timer)
    if (!ofDeviceOnly) return
    apart++
    active--
    pump()
  }

  /** @param answer gets status 0 with an error code of the system when there was no answer; `waitMs` is its Retry-After */
  function send(
    authorizationHeader: string,
    body: string,
    answer: (status: number, code: string, waitMs: number) => void,
  ): void {
    let settled = false
    const settle = (status: number, code: string, waitMs: number) => {
      if (settled) return
      settled = true
      answer(status, code, waitMs)
    }
    const outgoing = request(
      {
        agent,
        host,
        port,
        method: 'POST',
        path: '/v1/telemetry',
        headers: {
          authorization: authorizationHeader,
          'content-type': 'application/json',
          'content-length': body.length,
        },
        timeout: requestTimeoutMs,
      },
      (response) => onResponse(response, settle),
    )
    outgoing.on('timeout', () => outgoing.destroy(Object.assign(new Error('timeout'), { code: 'ETIMEDOUT' })))
    outgoing.on('error', (error: NodeJS.ErrnoException) => settle(0, error.code ?? 'error', 0))
    outgoing.end(body, 'latin1')
  }

  /** `{}` decodes to no readings, so it is answered like a message and stored as nothing. */
  async function signIn(timeoutMs: number): Promise<void> {
    const deadline = performance.now() + timeoutMs
    const last = authorization.at(-1) as string
    for (;;) {
      const { status, code } = await new Promise<{ status: number; code: string }>((resolve) => {
        send(last, '{}', (answered, reason) => resolve({ status: answered, code: reason }))
      })
      if (status >= 200 && status < 300) return
      if (performance.now() > deadline)
        throw new BridgeError(
          'BRIDGE_NOT_RUNNING',
          `no device got in at http://${host}:${port} within ${timeoutMs / 1000} s: ${status || ''} ${code}`,
        )
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }

  return {
    protocol: 'http',
    start: signIn,
    send(device) {
      ready.push(device)
      if (active < connections) pump()
    },
    inFlight: () => active + apart + again.length,
    connected: () => logins.length,
    ...handleOf(async () => {
      closed = true
      for (const timer of waiting) clearTimeout(timer)
      agent.destroy()
    }),
  }
}

/** The `code` of a problem document (RFC 9457) tells refusals apart; an answer of success needs no reading. */
function onResponse(response: IncomingMessage, settle: (status: number, code: string, waitMs: number) => void): void {
  const status = response.statusCode ?? 0
  let text = ''
  if (status < 200 || status >= 300) {
    response.setEncoding('utf8')
    response.on('data', (chunk: string) => {
      if (text.length < 4096) text += chunk
    })
  } else response.resume()
  // Answered only when the whole response is read, so that the connection is free for the next request.
  response.on('end', () => settle(status, problemCode(text), retryAfterMs(response)))
  response.on('error', (error: NodeJS.ErrnoException) => settle(0, error.code ?? 'error', 0))
}

function codeText(status: number, code: string): string {
  return code === '' ? String(status) : `${status} ${code}`
}

function problemCode(text: string): string {
  return /"code"\s*:\s*"([a-z0-9_]{1,64})"/.exec(text)?.[1] ?? ''
}

function retryAfterMs(response: IncomingMessage): number {
  const seconds = Number(response.headers['retry-after'] ?? 0)
  return Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, 60) * 1000 : 0
}
