import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { Writable } from 'node:stream'
import { pino } from 'pino'
import { onTestFinished } from 'vitest'
import { createMetrics } from '#platform/metrics.ts'
import type { ReasonCode } from '#schema/reason-code.ts'
import type { Authenticator, Presented } from '../auth/authenticator.ts'
import type { Principal } from '../auth/principal.ts'
import type { Envelope } from '../envelope.ts'
import type { Ingress } from '../ingress.ts'
import type { Pipeline } from '../pipeline-port.ts'
import { stored, type Verdict } from '../verdict.ts'
import { type HttpSourceOptions, startHttpSource } from './http-source.ts'

/** Tokens that the fixture's authenticator knows. */
export const tokens = { pump: 'fb_pump', fleet: 'fb_fleet', disabled: 'fb_disabled' } as const

const host = '127.0.0.1'

/** A pipeline that keeps what it is given and settles as the test says: at once by `decide`, or later by hand. */
export class TestPipeline implements Pipeline {
  readonly envelopes: Envelope[] = []
  /** Undefined leaves the message in hand. */
  decide: (ingress: Ingress) => Verdict | undefined = () => stored

  push(envelope: Envelope): void {
    this.envelopes.push(envelope)
    setImmediate(() => {
      const verdict = this.decide(envelope.ingress)
      if (verdict !== undefined) envelope.settle(verdict)
    })
  }

  get payloads(): string[] {
    return this.envelopes.map(({ ingress }) => ingress.payload.toString())
  }

  get last(): Ingress {
    const envelope = this.envelopes.at(-1)
    if (envelope === undefined) throw new Error('nothing was pushed')
    return envelope.ingress
  }

  async arrived(count: number): Promise<void> {
    const deadline = performance.now() + 5000
    while (this.envelopes.length < count) {
      if (performance.now() > deadline) throw new Error(`${this.envelopes.length} of ${count} messages arrived`)
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
  }
}

export async function startSource(
  settings: { maxConnectionsPerAddress?: number; maxBodyBytes?: number; maxItems?: number; holdMs?: number } = {},
  timeouts: HttpSourceOptions['timeouts'] = {},
  more: Partial<HttpSourceOptions> = {},
) {
  const pipeline = new TestPipeline()
  const metrics = createMetrics('test')
  const refused: ReasonCode[] = []
  const logged: string[] = []
  const log = pino(
    { level: 'trace' },
    new Writable({
      write(line: Buffer, _encoding, done) {
        logged.push(line.toString())
        done()
      },
    }),
  )
  const authenticator = new TestAuthenticator()
  const source = await startHttpSource(
    {
      port: 0,
      host,
      plain: true,
      tlsPort: 0,
      webSocket: true,
      maxConnections: 20_000,
      maxConnectionsPerAddress: 5000,
      maxBodyBytes: 1_048_576,
      maxItems: 10_000,
      holdMs: 10_000,
      ...settings,
    },
    { pipeline, authenticator, log, metrics, countRefused: (reason) => refused.push(reason), timeouts, ...more },
  )
  onTestFinished(() => source.close())
  const url = `http://${host}:${source.port}`
  const post = (
    path: string,
    body: string | Uint8Array<ArrayBuffer> | undefined,
    headers: Record<string, string> = {},
  ): Promise<Response> =>
    fetch(url + path, {
      method: 'POST',
      headers: { authorization: `Bearer ${tokens.pump}`, 'content-type': 'application/json', ...headers },
      ...(body !== undefined && { body }),
    })
  return {
    source,
    pipeline,
    metrics,
    refused,
    logged,
    authenticator,
    url,
    post,
    raw: () => RawClient.open(source.port),
  }
}

export class TestAuthenticator implements Authenticator {
  available = true
  readonly asked: [string | undefined, string | undefined][] = []

  authenticate({ secret: token, username }: Presented) {
    this.asked.push([token, username])
    if (!this.available) return 'unavailable'
    if (token === tokens.disabled) return 'disabled'
    if (token === tokens.pump && (username === undefined || username === 'pump-1')) return principal('pump-1', false)
    if (token === tokens.fleet && (username === undefined || username === 'gw-1')) return principal('gw-1', true)
    return 'unknown'
  }

  isLive() {
    return true
  }

  onChange() {
    return () => {}
  }

  admitDevice() {
    return 'admitted' as const
  }
}

function principal(device: string, fleet: boolean): Principal {
  return {
    tenant: 'default',
    device,
    fleet,
    credentialId: device,
    operator: false,
    expiresAtMs: Number.POSITIVE_INFINITY,
    allows: (other) => fleet || other === device,
  }
}

/** Bytes over a socket, for what well-behaved clients do not do. */
export class RawClient {
  readonly socket: Socket
  readonly #chunks: Buffer[] = []
  readonly closed: Promise<void>

  static async open(port: number): Promise<RawClient> {
    const client = new RawClient(connect(port, host))
    await once(client.socket, 'connect')
    return client
  }

  private constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (chunk) => this.#chunks.push(chunk))
    socket.on('error', () => {}) // 'close' follows
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()))
    onTestFinished(() => void socket.destroy())
  }

  get text(): string {
    return Buffer.concat(this.#chunks).toString('latin1')
  }

  write(bytes: string | Buffer): this {
    this.socket.write(bytes)
    return this
  }

  /** Waits until what has come fits. */
  async until(pattern: RegExp): Promise<RegExpExecArray> {
    const deadline = performance.now() + 5000
    for (;;) {
      const match = pattern.exec(this.text)
      if (match !== null) return match
      if (performance.now() > deadline) throw new Error(`no ${pattern} in ${JSON.stringify(this.text)}`)
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
  }
}

/** A request as bytes, with the token of pump-1. */
export function requestText(path: string, body: string, headers: readonly string[] = []): string {
  return `POST ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${tokens.pump}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n${headers.map((header) => `${header}\r\n`).join('')}\r\n${body}`
}

export const parkedAs = (code: ReasonCode, id = 'dead-1'): Verdict => ({
  kind: 'parked',
  code,
  message: `it is ${code}`,
  deadLetterId: id,
})

export const refusedAs = (code: ReasonCode, more: { limit?: string; waitMs?: number } = {}): Verdict => ({
  kind: 'refused',
  code,
  message: `it is ${code}`,
  ...more,
})
