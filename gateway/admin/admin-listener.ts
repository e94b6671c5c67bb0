import { createServer, type Server } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import swagger from '@fastify/swagger'
import { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from 'fastify'
import pg from 'pg'
import type { Config } from '#platform/config-schema.ts'
import { type Handle, handleOf } from '#platform/handle.ts'
import { listen } from '#platform/listen.ts'
import type { Log } from '#platform/log.ts'
import { uuidV7 } from '#platform/uuid-v7.ts'
import { LoginGuard } from '../auth/login-guard.ts'
import type { Replayer } from '../dead-letters/replayer.ts'
import type { LimitInspector } from '../rate-limit/limit-inspector.ts'
import { answerError, securityHeaders, sendProblem } from './answer-error.ts'
import { Exports } from './exports.ts'
import { type Login, Logins, type OwnToken } from './logins.ts'
import { adminProblem } from './problem.ts'
import { notAllowed, refusalReason } from './registry/refusal.ts'
import { type AdminRoute, mayDo, Streamed } from './route.ts'
import { adminTokenRoutes } from './routes/admin-tokens.ts'
import { auditRoutes } from './routes/audit.ts'
import { credentialRoutes } from './routes/credentials.ts'
import { deadLetterRoutes } from './routes/dead-letters.ts'
import { deviceEventRoutes } from './routes/device-events.ts'
import { deviceTypeRoutes } from './routes/device-types.ts'
import { deviceRoutes } from './routes/devices.ts'
import { limitRoutes } from './routes/limits.ts'
import { readingRoutes } from './routes/readings.ts'
import { tenantRoutes } from './routes/tenants.ts'

export interface AdminListenerOptions {
  readonly databaseUrl: string
  /** With the role admin, beside those of the table `admin_token`. */
  readonly ownToken?: OwnToken | undefined
  /** Of the gateway in this process; absent: what is left of limits cannot be shown. */
  readonly limits?: LimitInspector | undefined
  /** Of the gateway in the same process. */
  readonly replayer?: Replayer | undefined
  readonly log: Log
}

export const adminRoutes: readonly AdminRoute[] = [
  ...adminTokenRoutes,
  ...tenantRoutes,
  ...deviceRoutes,
  ...credentialRoutes,
  ...limitRoutes,
  ...auditRoutes,
  ...deadLetterRoutes,
  ...deviceTypeRoutes,
  ...readingRoutes,
  ...deviceEventRoutes,
]

const base = '/admin/v1'
const bodyLimit = 1_048_576
const timeouts = {
  headersTimeout: 10_000,
  requestTimeout: 30_000,
  keepAliveTimeout: 75_000,
  connectionsCheckingInterval: 2000,
}
const maxConnections = 200
/** After the last answer, for clients to read theirs and go. */
const farewellMs = 500

/**
 * The admin API: tenants, devices, credentials, admin tokens and the audit, for whoever has a token of the needed role.
 * @throws {BridgeError} BRIDGE_PORT_IN_USE that names the variable
 */
export async function startAdminListener(
  { host, port }: Pick<Config['admin'], 'host' | 'port'>,
  options: AdminListenerOptions,
): Promise<Handle & { readonly port: number }> {
  const { databaseUrl, log } = options
  await using opened = new AsyncDisposableStack()
  const pool = createPool(databaseUrl)
  pool.on('error', (error) => log.debug({ err: error }, 'an idle connection of the admin API ended'))
  opened.defer(() => pool.end())
  const { app, server } = createApp(log)
  const stopping = new AbortController()
  await app.register(swagger, { openapi: openapi() })
  app.addHook('onRequest', loginHook(new Logins(options.ownToken, pool), log, stopping.signal))
  const exports = new Exports(databaseUrl, log)
  opened.defer(() => exports.close())
  for (const route of adminRoutes) addRoute(app, route, pool, { ...options, exports })
  app.get(`${base}/openapi.json`, { schema: { hide: true } }, () => app.swagger())
  await app.ready()
  opened.defer(() => app.close())
  if (!/^(127\.|::1$|localhost$)/.test(host))
    log.warn({ host }, 'the admin API speaks plain HTTP: put TLS in front of it, or leave it on 127.0.0.1')
  const bound = await listen(server, { host, port, variable: 'BRIDGE_ADMIN_PORT' })
  opened.defer(async () => {
    stopping.abort()
    const closed = new Promise<void>((resolve) => server.close(() => resolve()))
    server.closeIdleConnections()
    const farewell = setTimeout(() => server.closeAllConnections(), farewellMs)
    await closed
    clearTimeout(farewell)
  })
  const parts = opened.move()
  return { port: bound, ...handleOf(() => parts.disposeAsync()) }
}

function createPool(databaseUrl: string): pg.Pool {
  return new pg.Pool({
    connectionString: databaseUrl,
    application_name: 'fleetbridge admin',
    max: 4,
    connectionTimeoutMillis: 5000,
    idleTimeoutMillis: 30_000,
    statement_timeout: 15_000,
    query_timeout: 20_000,
    keepAlive: true,
  })
}

function createApp(log: Log): { app: FastifyInstance; server: Server } {
  let server: Server | undefined
  const app = fastify({
    logger: false,
    bodyLimit,
    exposeHeadRoutes: false,
    genReqId: () => uuidV7(),
    routerOptions: { maxParamLength: 2048 }, // an id of 128 bytes, percent-encoded, and then some that are told what is wrong with them
    // Nothing is coerced, filled in or left out: what is not as it should be is refused.
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false, allErrors: false } },
    serverFactory: (handler) => {
      server = createServer(timeouts, handler)
      server.maxConnections = maxConnections
      return server
    },
    frameworkErrors: (error, request, reply) => void answerError(error, request, reply, log),
  })
  app.removeContentTypeParser('text/plain')
  app.addContentTypeParser('text/csv', { parseAs: 'buffer' }, (_request, body, done) => {
    try {
      done(null, new TextDecoder('utf-8', { fatal: true }).decode(body as Buffer))
    } catch {
      done(Object.assign(new Error('the CSV is not UTF-8'), { statusCode: 400 }))
    }
  })
  app.decorateRequest('login', null)
  app.setNotFoundHandler((request, reply) =>
    sendProblem(reply, adminProblem('not_found', { detail: 'there is nothing at this path', id: request.id })),
  )
  app.setErrorHandler((error: FastifyError, request, reply) => answerError(error, request, reply, log))
  if (server === undefined) throw new TypeError('Fastify made no server')
  return { app, server }
}

declare module 'fastify' {
  interface FastifyRequest {
    login: Login | null
  }
}

/** Wrong tokens of one address before its refusals wait; a right one never does. */
const failuresAllowed = '10:10'

/** Before a byte of the body is read. A refusal of an address that keeps failing waits; the process does not end for it. */
function loginHook(logins: Logins, log: Log, stopping: AbortSignal) {
  const guard = new LoginGuard(failuresAllowed)
  return async (request: FastifyRequest, reply: FastifyReply): Promise<unknown> => {
    reply.headers({ ...securityHeaders, 'x-request-id': request.id })
    const { role } = request.routeOptions.config as { role?: AdminRoute['role'] }
    if (role === undefined) return undefined // the description, and paths that are none
    const token = /^bearer +([\x21-\x7e]+) *$/i.exec(request.headers.authorization ?? '')?.[1]
    const login = token === undefined ? undefined : await logins.find(token)
    if (login === undefined) {
      if (token !== undefined) {
        const address = request.socket.remoteAddress ?? ''
        const nowMs = performance.now()
        guard.failed(address, undefined, nowMs)
        const delayMs = guard.delayMs(address, undefined, nowMs)
        if (delayMs > 0) log.warn({ address, delayMs }, 'failed logins at the admin API; its refusals are delayed')
        await sleep(delayMs, undefined, { signal: stopping }).catch(() => undefined)
      }
      const detail = 'Authorization must be Bearer with an admin token; npx fleetbridge admin-tokens add makes one'
      reply.header('www-authenticate', 'Bearer realm="fleetbridge admin"')
      return await sendProblem(reply, adminProblem('not_authenticated', { detail, id: request.id }))
    }
    if (!mayDo(login.role, role)) {
      const detail = `this needs the role ${role}, and the token ${login.name} has the role ${login.role}`
      return await sendProblem(reply, adminProblem('not_allowed', { detail, id: request.id }))
    }
    request.login = login
    return undefined
  }
}

function addRoute(
  app: FastifyInstance,
  route: AdminRoute,
  pool: pg.Pool,
  { limits, replayer, exports }: Pick<AdminListenerOptions, 'limits' | 'replayer'> & { readonly exports: Exports },
): void {
  const { method, path, role, tag, summary, params, query, body, consumes, status, response, streams, handle } = route
  app.route({
    method,
    url: `${base}${path}`,
    config: { role },
    schema: {
      tags: [tag],
      summary,
      description: `Role: ${role}.`,
      security: [{ token: [] }],
      ...(params && { params }),
      querystring: query ?? { type: 'object', additionalProperties: false },
      ...(body && (consumes === undefined ? { body } : { body: { content: { [consumes]: { schema: body } } } })),
      response: { [status]: streams === undefined ? response : { content: contentOf(streams) } },
    },
    async handler(request, reply) {
      const { login } = request
      if (login === null) throw new TypeError('a route without a login')
      const query = ofOwnTenant(route, login, request.query as Record<string, unknown>)
      const by = { actor: `admin:${login.name}`, makesTenants: false }
      const client = await pool.connect()
      let fault: Error | undefined
      try {
        const { params, body } = request
        const answer = await handle({
          params: params as never,
          query: query as never,
          body: body as never,
          login,
          by,
          client,
          limits,
          replayer,
          exports,
        })
        if (answer instanceof Streamed) return await reply.type(answer.contentType).send(answer.body)
        return await reply.code(status).send(answer)
      } catch (error) {
        // What Postgres or the network did may have left the connection in the middle of something.
        if (refusalReason(error) === undefined) fault = error as Error
        throw error
      } finally {
        client.release(fault)
      }
    },
  })
}

/** As the description names bodies that no serializer looks at. */
function contentOf(types: readonly string[]): Record<string, { schema: object }> {
  return Object.fromEntries(types.map((type) => [type, { schema: { type: 'string' } }]))
}

/**
 * What a token of one tenant asks for, with its tenant where it names none.
 * @throws BridgeError BRIDGE_USAGE for another's, or what is of none
 */
function ofOwnTenant({ ofTenant }: AdminRoute, login: Login, query: Record<string, unknown>): Record<string, unknown> {
  const { tenant } = login
  if (tenant === undefined) return query
  if (ofTenant !== true)
    throw notAllowed(`the token ${login.name} reads what is of the tenant ${tenant}, and this is more`)
  if ((query.tenant ?? tenant) !== tenant) throw notAllowed(`the token ${login.name} is of the tenant ${tenant} alone`)
  return { ...query, tenant }
}

function openapi() {
  return {
    info: {
      title: 'fleetbridge admin API',
      version: '1',
      description: 'Tenants, devices and their credentials. Errors are problem documents (RFC 9457): docs/admin.md.',
    },
    components: { securitySchemes: { token: { type: 'http' as const, scheme: 'bearer' } } },
  }
}
