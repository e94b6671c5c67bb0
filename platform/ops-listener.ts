import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { type Handle, handleOf } from './handle.ts'
import { listen } from './listen.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'

export interface OpsListenerOptions {
  readonly host: string
  /** 0 picks a free one. */
  readonly port: number
  /** The setting that moves the port, for the error's text. */
  readonly portVariable?: string
  readonly metrics: Metrics
  /** Whether this process should be sent work, and why not; the detail is shown as it is. */
  readonly ready: () => { ok: boolean; detail: Record<string, unknown> }
  readonly log?: Log
}

/** Scrapes are small and few: whoever is slower than this is no scraper. */
const timeouts = {
  headersTimeout: 5000,
  requestTimeout: 10_000,
  keepAliveTimeout: 75_000,
  connectionsCheckingInterval: 1000,
}
const maxConnections = 200

/**
 * Serves /metrics, /livez and /readyz, and nothing else, to whoever reaches the port.
 * @throws {BridgeError} BRIDGE_PORT_IN_USE that names the variable
 */
export async function startOpsListener(options: OpsListenerOptions): Promise<Handle & { readonly port: number }> {
  const { host, metrics, ready, log, portVariable: variable = 'BRIDGE_OPS_PORT' } = options
  metrics.gauge('fleetbridge_ready', '1 while /readyz is 200', () => (ready().ok ? 1 : 0))
  const server = createServer(timeouts, (request, response) => {
    answer(request, response).catch((error: unknown) => {
      log?.error({ err: error }, 'the ops listener failed to answer')
      if (response.headersSent) response.destroy()
      else send(request, response, 500, 'text/plain', 'internal error; see the log\n')
    })
  })
  server.maxConnections = maxConnections

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? '').split('?', 1)[0]
    if (path !== '/metrics' && path !== '/livez' && path !== '/readyz')
      return send(request, response, 404, 'text/plain', 'only /metrics, /livez and /readyz\n')
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD')
      return send(request, response, 405, 'text/plain', 'only GET and HEAD\n')
    }
    if (path === '/livez') return send(request, response, 200, 'text/plain', 'ok\n')
    if (path === '/metrics')
      return send(request, response, 200, metrics.registry.contentType, await metrics.registry.metrics())
    const { ok, detail } = ready()
    send(request, response, ok ? 200 : 503, 'application/json', `${JSON.stringify({ ready: ok, ...detail })}\n`)
  }

  const port = await listen(server, { host, port: options.port, variable })
  return {
    port,
    ...handleOf(
      () =>
        new Promise((resolve) => {
          server.close(() => resolve())
          server.closeAllConnections() // whoever asks in this moment sees the end of the process
        }),
    ),
  }
}

function send(request: IncomingMessage, response: ServerResponse, status: number, type: string, text: string): void {
  // Nothing here takes a body, so who sends one is not read to its end.
  const hasBody = request.headers['content-length'] !== undefined || request.headers['transfer-encoding'] !== undefined
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
    ...(hasBody && { connection: 'close' }),
  })
  response.end(text)
}
