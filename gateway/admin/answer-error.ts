import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import pg from 'pg'
import { BridgeError } from '#platform/errors.ts'
import type { Log } from '#platform/log.ts'
import { type AdminProblem, type AdminProblemCode, adminProblem } from './problem.ts'
import { refusalReason } from './registry/refusal.ts'

/** Answers hold secrets and say who may do what: no cache keeps them, and no page shows or guesses at them. */
export const securityHeaders = {
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
}

/** Says what went wrong in the words of a problem; what is our fault is told in the log alone. */
export async function answerError(
  error: FastifyError,
  request: FastifyRequest,
  reply: FastifyReply,
  log: Log,
): Promise<unknown> {
  const { id } = request
  reply.headers(securityHeaders)
  const reason = refusalReason(error)
  if (reason !== undefined) return await sendProblem(reply, adminProblem(reason, { detail: error.message, id }))
  if (error.validation !== undefined) {
    const errors = error.validation.map(({ instancePath, message, params }) => ({
      at: `${error.validationContext ?? ''}${instancePath}`,
      message: `${message ?? 'is wrong'}${'additionalProperty' in params ? `: ${String(params.additionalProperty).slice(0, 60)}` : ''}`,
    }))
    const detail = errors.map(({ at, message }) => `${at} ${message}`).join('; ')
    return await sendProblem(reply, adminProblem('invalid', { detail, id, errors }))
  }
  const { statusCode } = error
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500)
    return await sendProblem(reply, adminProblem(codeOf(statusCode), { detail: error.message, id }))
  if (error instanceof pg.DatabaseError && error.code === '57014') {
    const detail = 'the database took too long; ask for a shorter range, a wider step or fewer devices'
    return await sendProblem(reply, adminProblem('too_slow', { detail, id }))
  }
  if (isAway(error)) {
    log.warn({ err: error, id }, 'the admin API cannot reach the database')
    const detail = 'the database does not answer; come back soon'
    reply.header('retry-after', '2')
    return await sendProblem(reply, adminProblem('database_unavailable', { detail, id }))
  }
  if (error instanceof BridgeError && error.code.startsWith('BRIDGE_EVENT_LOG_')) {
    reply.header('retry-after', '2')
    return await sendProblem(reply, adminProblem('event_log_unavailable', { detail: error.message, id }))
  }
  log.error({ err: error, id, route: request.routeOptions.url }, 'a request of the admin API failed')
  return await sendProblem(reply, adminProblem('internal', { detail: 'it failed; see the log of the gateway', id }))
}

function codeOf(status: number): AdminProblemCode {
  return status === 413 ? 'too_large' : status === 415 ? 'unsupported' : 'invalid'
}

/** Connections that fail or end: SQLSTATE classes 08 and 57, system errors, and the timeouts of pg, which have no code. */
function isAway(error: Error): boolean {
  const { code } = error as { code?: string }
  if (error instanceof pg.DatabaseError) return code !== undefined && /^(08|53|57)/.test(code)
  if (code !== undefined) return /^E[A-Z]+$/.test(code)
  return /timeout|terminated|not queryable/i.test(error.message)
}

export async function sendProblem(reply: FastifyReply, document: AdminProblem): Promise<FastifyReply> {
  reply.header('content-type', 'application/problem+json').serializer(JSON.stringify)
  return await reply.code(document.status).send(document)
}
