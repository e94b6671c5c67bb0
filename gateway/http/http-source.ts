import {
  createServer,
  type IncomingMessage,
  METHODS,
  type Server,
  type ServerOptions,
  type ServerResponse,
} from 'node:http'
import { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from 'fastify'
import type { Config } from '#platform/config-schema.ts'
import { type Handle, handleOf } from '#platform/handle.ts'
import { listen } from '#platform/listen.ts'
import type { Log } from '#platform/log.ts'
import type { Metrics } from '#platform/metrics.ts'
import { uuidV7 } from '#platform/uuid-v7.ts'
import type { ReasonCode } from '#schema/reason-code.ts'
import type { Authenticator, AuthRefusal } from '../auth/authenticator.ts'
import type { Principal } from '../auth/principal.ts'
import type { Pipeline } from '../pipeline-port.ts'
import { onClientError } from './client-error.ts'
import { presentedBy } from './credentials.ts'
import { Exchange, type Intake } from './exchange.ts'
import { Inflater } from './inflater.ts'
import { type Answer, problem } from './problem.ts'
import { RequestCounts } from './request-counts.ts'
import { respond } from './respond.ts'
import { Room } from './room.ts'
import { type Route, routes, topicOf } from './routes.ts'

export interface HttpSourceOptions {
  readonly pipeline: Pipeline
  readonly authenticator: Authenticator
  readonly log: Log
  readonly metrics: Metrics
  /** A request that was refused before its messages reached the pipeline. */
  readonly countRefused?: (reason: ReasonCode) => void
  readonly timeouts?: Partial<typeof timeouts>
}

/** Who is slower with a head or a body gets 408. A kept connection outlives the idle minute of most balancers in front of it. */
const timeouts = {
  headersTimeout: 10_000,
  requestTimeout: 30_000,
  keepAliveTimeout: 75_000,
  connectionsCheckingInterval: 2000,
}
const maxConnections = 20_000
const roomBytes = 64 * 1024 * 1024
const concurrentInflations = 2
/** After the last answer, for clients to read theirs and go. */
const farewellMs = 1000
const otherRoute = 'other'

/**
 * Telemetry over HTTP. Credentials are looked at before a byte of the body is read, and a request is answered when all its messages are.
 * @throws {BridgeError} BRIDGE_PORT_IN_USE that names the variable
 */
export async function startHttpSource(
  http: Config['http'],
  { pipeline, authenticator, log, metrics, countRefused = () => {}, timeouts: ownTimeouts }: HttpSourceOptions,
): Promise<Handle & { readonly port: number }> {
  const room = new Room(Math.max(roomBytes, 2 * http.maxBodyBytes))
  const counts = new RequestCounts()
  counts.register(metrics, () => room.taken)
  let drained: (() => void) | undefined
  const intake: Intake = {
    pipeline,
    log,
    maxBodyBytes: http.maxBodyBytes,
    maxItems: http.maxItems,
    holdMs: http.holdMs,
    room,
    inflater: new Inflater(http.maxBodyBytes, concurrentInflations),
    counts,
    open: new Set(),
    closing: false,
    countRefused,
    left() {
      if (intake.closing && intake.open.size === 0) drained?.()
    },
  }
  const { app, server } = createApp(intake, { ...timeouts, ...ownTimeouts })
  for (const route of routes) addRoute(app, route, intake, authenticator)
  await app.ready()
  const port = await listen(server, { host: http.host, port: http.port, variable: 'BRIDGE_HTTP_PORT' })

  return {
    port,
    ...handleOf(async () => {
      intake.closing = true
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const exchange of intake.open) exchange.interrupt(doorAnswers.closing)
      if (intake.open.size > 0) await new Promise<void>((resolve) => (drained = resolve))
      const farewell = setTimeout(() => server.closeAllConnections(), farewellMs)
      await closed
      clearTimeout(farewell)
      await app.close()
    }),
  }
}

const stoppingDetail = 'the gateway is stopping; send it again, elsewhere if there is another'

function createApp(intake: Intake, serverOptions: ServerOptions): { app: FastifyInstance; server: Server } {
  let server: Server | undefined
  const app = fastify({
    // A line a request costs more than the request, and its path may hold a token.
    logger: false,
    exposeHeadRoutes: false,
    serverFactory: (handler) => {
      server = createServer(serverOptions, handler)
      server.maxConnections = maxConnections
      return server
    },
    clientErrorHandler: (error, socket) => onClientError(error, socket, intake.open),
    routerOptions: {
      maxParamLength: 16_384, // the head is bounded already, and a device id that is too long has an answer of its own
    },
    frameworkErrors: (_error, request, reply) => answerApart(intake, request, reply, badPath()),
    rewriteUrl: ({ url = '/' }) => (url.startsWith('/') ? url : pathOfAbsolute(url)),
  })
  // Bodies are read by the exchange: after authentication, whatever their type, and within the bounds of all requests together.
  for (const method of METHODS)
    if (method !== 'CONNECT') app.addHttpMethod(method, { hasBody: false, overrideExisting: true })
  app.setNotFoundHandler((request, reply) =>
    answerApart(
      intake,
      request,
      reply,
      problem('not_found', { detail: 'there is nothing at this path', id: uuidV7() }),
    ),
  )
  app.setErrorHandler((error: FastifyError, request, reply) => {
    const id = uuidV7()
    intake.log.error({ err: error, route: request.routeOptions.url, id }, 'a request failed')
    answerApart(intake, request, reply, problem('internal', { detail: 'the gateway failed; see its log', id }))
  })
  if (server === undefined) throw new TypeError('Fastify made no server')
  withExpectations(server)
  return { app, server }
}

/** The client waits before it sends the body; it is told to go on once its credentials are good (RFC 9110 §10.1.1). */
function withExpectations(server: Server): void {
  server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
    server.emit('request', request, response)
  })
  server.on('checkExpectation', (request: IncomingMessage, response: ServerResponse) => {
    const detail = 'Expect may only be 100-continue'
    respond(request, response, problem('protocol_error', { detail, id: uuidV7(), status: 417 }), true)
  })
}

function addRoute(app: FastifyInstance, route: Route, intake: Intake, authenticator: Authenticator): void {
  const { pattern } = route
  app.post(pattern, (request, reply) => {
    reply.hijack()
    takeIn(route, intake, authenticator, request, reply.raw)
  })
  const others = METHODS.filter((method) => method !== 'POST' && method !== 'CONNECT')
  app.route({
    method: others,
    url: pattern,
    handler(request, reply) {
      const answer = request.method === 'OPTIONS' ? optionsAnswer : wrongMethod()
      answerApart(intake, request, reply, answer, pattern)
    },
  })
}

function takeIn(
  route: Route,
  intake: Intake,
  authenticator: Authenticator,
  { raw, params }: FastifyRequest,
  response: ServerResponse,
): void {
  const { token: pathToken, device } = params as { token?: string; device?: string }
  const presented = presentedBy(raw.headers.authorization)
  const token = route.tokenInPath ? pathToken : presented.token
  const principal = intake.closing
    ? 'closing'
    : (authenticator.authenticate({
        secret: token,
        username: route.tokenInPath ? undefined : presented.username,
      }) as Principal | AuthRefusal)
  if (typeof principal === 'string') {
    const { code, detail } = doorAnswers[principal]
    intake.countRefused(code)
    const answer = problem(code, { detail, id: uuidV7(), ...(code in challenged && { headers: challenge }) })
    intake.counts.count(route.pattern, answer.status)
    respond(raw, response, answer, intake.closing)
  } else new Exchange(intake, { route, principal, device, topic: topicOf(route, raw.url ?? '') }, raw, response).start()
}

const doorAnswers = {
  unknown: {
    code: 'not_authenticated',
    detail: 'Authorization must be Bearer, Token or Basic (password = token) with a token that is known here',
  },
  disabled: { code: 'credential_disabled', detail: 'the token is known, but disabled, revoked or expired' },
  unavailable: { code: 'credentials_unavailable', detail: 'credentials could not be loaded yet; come back soon' },
  closing: { code: 'shutting_down', detail: stoppingDetail },
} as const

const challenged = { not_authenticated: true, credential_disabled: true }
const challenge = { 'www-authenticate': 'Bearer realm="fleetbridge", Basic realm="fleetbridge", charset="UTF-8"' }
const allow = 'OPTIONS, POST'
const optionsAnswer: Answer = { status: 204, headers: { allow }, body: '' }

function wrongMethod(): Answer {
  const detail = 'telemetry is sent with POST'
  return problem('protocol_error', { detail, id: uuidV7(), status: 405, headers: { allow } })
}

function badPath(): Answer {
  return problem('protocol_error', { detail: 'the path is not percent-encoded as it should be', id: uuidV7() })
}

/** Requests that carry no telemetry. */
function answerApart(
  { counts, closing }: Intake,
  request: FastifyRequest,
  reply: FastifyReply,
  answer: Answer,
  route = otherRoute,
): void {
  reply.hijack()
  counts.count(route, answer.status)
  respond(request.raw, reply.raw, answer, closing)
}

/** A target may be a whole URL, as proxies are sent it (RFC 9112 §3.2.2). */
function pathOfAbsolute(url: string): string {
  const match = /^https?:\/\/[^/?#]*(\/[^#]*)?/i.exec(url)
  return match?.[1] ?? '/'
}
