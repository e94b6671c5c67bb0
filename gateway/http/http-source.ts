import {
  createServer,
  type IncomingMessage,
  METHODS,
  type RequestListener,
  type Server,
  type ServerOptions,
  type ServerResponse,
} from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { Socket } from 'node:net'
import { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from 'fastify'
import { ClientAddresses } from '#platform/client-addresses.ts'
import type { Config } from '#platform/config-schema.ts'
import { type Handle, handleOf } from '#platform/handle.ts'
import { Handshakes } from '#platform/handshakes.ts'
import { listen } from '#platform/listen.ts'
import type { Log } from '#platform/log.ts'
import type { Metrics } from '#platform/metrics.ts'
import type { TlsCertificates } from '#platform/tls-certificates.ts'
import { uuidV7 } from '#platform/uuid-v7.ts'
import type { ReasonCode } from '#schema/reason-code.ts'
import type { Authenticator } from '../auth/authenticator.ts'
import { LoginGuard } from '../auth/login-guard.ts'
import { type CertificateReader, certificateShownOn, readsNoCertificate } from '../auth/shown-certificate.ts'
import { Doorkeeper } from '../doorkeeper.ts'
import type { Peer } from '../mqtt/peer.ts'
import { type WebSocketDoor, webSocketPath } from '../mqtt/web-socket-door.ts'
import type { Pipeline } from '../pipeline-port.ts'
import type { Routes } from '../routes/route-table.ts'
import { onClientError } from './client-error.ts'
import type { Intake } from './exchange.ts'
import { Inflater } from './inflater.ts'
import { type Door, stoppingRefusal, takeIn } from './login.ts'
import { type Probe, probes } from './probes.ts'
import { type Answer, problem } from './problem.ts'
import { RequestCounts } from './request-counts.ts'
import { respond } from './respond.ts'
import { Room } from './room.ts'
import { type Route, routedDoor, routes } from './routes.ts'

export interface HttpSourceOptions {
  readonly pipeline: Pipeline
  readonly authenticator: Authenticator
  readonly log: Log
  readonly metrics: Metrics
  /** A request that was refused before its messages reached the pipeline. */
  readonly countRefused?: (reason: ReasonCode) => void
  readonly timeouts?: Partial<typeof timeouts>
  /** Shared with MQTT; absent: failed logins are not slowed. */
  readonly loginGuard?: LoginGuard
  /** Absent: no HTTPS. */
  readonly tls?: TlsCertificates | undefined
  readonly addresses?: ClientAddresses
  /** Absent: client certificates say nothing. */
  readonly clientCertificateOf?: CertificateReader
  /** Absent: no MQTT over WebSocket. */
  readonly webSocketDoor?: WebSocketDoor | undefined
  /** Its paths are doors, too. */
  readonly routes?: Routes | undefined
}

export interface HttpSource extends Handle {
  /** Of the listener without TLS; 0 when there is none. */
  readonly port: number
  /** Of the listener with TLS; 0 when there is none. */
  readonly tlsPort: number
}

/** Who is slower with a head or a body gets 408. A kept connection outlives the idle minute of most balancers in front of it. */
const timeouts = {
  headersTimeout: 10_000,
  requestTimeout: 30_000,
  keepAliveTimeout: 75_000,
  connectionsCheckingInterval: 2000,
}
const roomBytes = 64 * 1024 * 1024
const concurrentInflations = 2
/** After the last answer, for clients to read theirs and go. */
const farewellMs = 1000
const otherRoute = 'other'

/**
 * Telemetry over HTTP. Credentials are looked at before a byte of the body is read, and a request is answered when all its messages are.
 * @throws {BridgeError} BRIDGE_PORT_IN_USE that names the variable
 */
export async function startHttpSource(http: Config['http'], options: HttpSourceOptions): Promise<HttpSource> {
  const { pipeline, log, metrics, countRefused = () => {}, tls, webSocketDoor } = options
  const room = new Room(Math.max(roomBytes, 2 * http.maxBodyBytes))
  const counts = new RequestCounts()
  counts.register(metrics, () => room.taken)
  const refusedConnections = metrics.counter(
    'fleetbridge_http_refused_connections_total',
    'Connections that were closed before anything was read',
    ['reason'],
    [{ reason: 'too_many_connections' }, { reason: 'too_many_from_address' }],
  )
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
    routes: options.routes,
    open: new Set(),
    closing: false,
    countRefused,
    left() {
      if (intake.closing && intake.open.size === 0) drained?.()
    },
  }
  const addresses = options.addresses ?? new ClientAddresses()
  const door: Door = {
    intake,
    authenticator: options.authenticator,
    loginGuard: options.loginGuard ?? new LoginGuard('none'),
    addresses,
    clientCertificateOf: options.clientCertificateOf ?? readsNoCertificate,
  }
  const serverOptions: ServerOptions = {
    ...timeouts,
    ...options.timeouts,
    // Else a request that offers h2c, as Java's client does, would be taken for an upgrade, and never answered.
    shouldUpgradeCallback: (request) => webSocketDoor?.isFor(request) === true,
  }
  const { app, plain, secure } = createApp(intake, http.plain, tls, serverOptions)
  app.setNotFoundHandler((request, reply) => {
    // Asked at each request: the table may be another than at the start.
    if (request.method === 'POST' && options.routes?.hasPath(request.url) === true) {
      reply.hijack()
      takeIn(door, { route: routedDoor }, request.raw, reply.raw)
    } else answerApart(intake, request, reply, notFound())
  })
  for (const route of routes) addRoute(app, route, door)
  for (const probe of probes) addProbe(app, probe, intake)
  if (webSocketDoor !== undefined)
    app.get(webSocketPath, (request, reply) => answerApart(intake, request, reply, needsUpgrade()))
  await app.ready()

  // Without a rate: a sensor that makes a connection for each reading is no flood.
  const doorkeeper = new Doorkeeper({ ...http, connectRate: 'none' })
  const servers: Server[] = []
  const endings: (() => void)[] = []
  async function listenOn(server: Server | undefined, port: number, variable: string): Promise<number> {
    if (server === undefined) return 0
    servers.push(server)
    if (webSocketDoor !== undefined)
      server.on('upgrade', (request, socket, head) =>
        webSocketDoor.upgrade(request, socket, head, peerOf(request, door)),
      )
    const handshakes = server === secure ? new Handshakes(server) : undefined
    const endWaiting = addresses.guard(server, (address, socket) => {
      const refusal = doorkeeper.admit(address, performance.now())
      if (refusal !== undefined) {
        refusedConnections.inc({ reason: refusal })
        return false
      }
      socket.once('close', () => doorkeeper.leave(address))
      handshakes?.begin(socket)
      return true
    })
    endings.push(endWaiting, () => handshakes?.endAll())
    return await listen(server, { host: http.host, port, variable })
  }

  async function close(): Promise<void> {
    intake.closing = true
    const closed = Promise.all(servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve()))))
    for (const end of endings) end()
    for (const unanswered of intake.open) unanswered.interrupt(stoppingRefusal)
    if (intake.open.size > 0) await new Promise<void>((resolve) => (drained = resolve))
    const farewell = setTimeout(() => {
      for (const server of servers) server.closeAllConnections()
    }, farewellMs)
    await closed
    clearTimeout(farewell)
    await app.close()
  }

  try {
    const port = await listenOn(plain, http.port, 'BRIDGE_HTTP_PORT')
    const tlsPort = await listenOn(secure, http.tlsPort, 'BRIDGE_HTTP_TLS_PORT')
    return { port, tlsPort, ...handleOf(close) }
  } catch (error) {
    for (const server of servers) server.close()
    throw error
  }
}

function createApp(
  intake: Intake,
  hasPlain: boolean,
  tls: TlsCertificates | undefined,
  serverOptions: ServerOptions,
): { app: FastifyInstance; plain: Server | undefined; secure: Server | undefined } {
  let plain: Server | undefined
  let secure: Server | undefined
  const onError = (error: Error, socket: Socket) => onClientError(error, socket, intake.open)
  function createServers(handler: RequestListener): Server {
    if (hasPlain) plain = withLimits(createServer(serverOptions, handler))
    if (tls !== undefined) secure = withLimits(createSecure(serverOptions, tls, handler))
    // Fastify wants a server; without any listener of ours it gets one that nobody reaches.
    const own = plain ?? secure ?? createServer(serverOptions, handler)
    if (secure !== undefined && secure !== own) secure.on('clientError', onError)
    return own
  }
  const app = fastify({
    // A line a request costs more than the request, and its path may hold a token.
    logger: false,
    exposeHeadRoutes: false,
    serverFactory: createServers,
    clientErrorHandler: (error, socket) => onError(error, socket as Socket),
    routerOptions: {
      maxParamLength: 16_384, // the head is bounded already, and a device id that is too long has an answer of its own
    },
    frameworkErrors: (_error, request, reply) => answerApart(intake, request, reply, badPath()),
    rewriteUrl: ({ url = '/' }) => (url.startsWith('/') ? url : pathOfAbsolute(url)),
  })
  // Bodies are read by the exchange: after authentication, whatever their type, and within the bounds of all requests together.
  for (const method of METHODS)
    if (method !== 'CONNECT') app.addHttpMethod(method, { hasBody: false, overrideExisting: true })
  app.setErrorHandler((error: FastifyError, request, reply) => {
    const id = uuidV7()
    intake.log.error({ err: error, route: request.routeOptions.url, id }, 'a request failed')
    answerApart(intake, request, reply, problem('internal', { detail: 'the gateway failed; see its log', id }))
  })
  return { app, plain, secure }
}

function createSecure(options: ServerOptions, tls: TlsCertificates, handler: RequestListener): Server {
  const server = createSecureServer({ ...options, ...tls.serverOptions() }, handler)
  // Node hands a failed handshake to `clientError`, whose answer nobody could read.
  server.removeAllListeners('tlsClientError')
  server.on('tlsClientError', (_error, socket) => socket.destroy())
  tls.follow(server)
  return server
}

function withLimits<Kind extends Server>(server: Kind): Kind {
  withExpectations(server)
  return server
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

function addRoute(app: FastifyInstance, route: Route, door: Door): void {
  const { pattern } = route
  const { intake } = door
  app.post(pattern, (request, reply) => {
    reply.hijack()
    takeIn(door, { route, ...(request.params as { token?: string; device?: string }) }, request.raw, reply.raw)
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

function addProbe(app: FastifyInstance, { pattern, answer }: Probe, intake: Intake): void {
  app.route({
    method: METHODS.filter((method) => method !== 'CONNECT'),
    url: pattern,
    handler(request, reply) {
      const isRead = request.method === 'GET' || request.method === 'HEAD'
      answerApart(intake, request, reply, isRead ? answer : onlyRead(), pattern)
    },
  })
}

function notFound(): Answer {
  return problem('not_found', { detail: 'there is nothing at this path', id: uuidV7() })
}

function onlyRead(): Answer {
  const detail = 'there is only something to read here, with GET or HEAD'
  return problem('protocol_error', { detail, id: uuidV7(), status: 405, headers: { allow: 'GET, HEAD' } })
}

const allow = 'OPTIONS, POST'
const optionsAnswer: Answer = { status: 204, headers: { allow }, body: '' }

function wrongMethod(): Answer {
  const detail = 'telemetry is sent with POST'
  return problem('protocol_error', { detail, id: uuidV7(), status: 405, headers: { allow } })
}

function needsUpgrade(): Answer {
  const detail = 'MQTT over WebSocket is spoken here: upgrade, with the subprotocol mqtt'
  return problem('protocol_error', { detail, id: uuidV7(), status: 426, headers: { upgrade: 'websocket' } })
}

function peerOf(request: IncomingMessage, { addresses, clientCertificateOf }: Door): Peer {
  const { socket, headers } = request
  return {
    address: addresses.of(socket),
    transport: 'encrypted' in socket ? 'wss' : 'ws',
    // A browser shows the user's certificate for whatever page it is on, and tells that page's origin.
    certificate: headers.origin === undefined ? certificateShownOn(socket, clientCertificateOf) : undefined,
  }
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
