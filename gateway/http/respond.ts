import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Answer } from './problem.ts'

/** A body up to this size is read to its end and thrown away, so that the connection may stay. */
const shortBodyBytes = 64 * 1024
/** Beyond it the connection is closed, but not before the client could read why. */
const lingerMs = 1000

const lingering = new WeakSet<Socket>()

/** Whether the last answer of this connection is out, and only the client is waited for. */
export function isLingering(socket: Socket): boolean {
  return lingering.has(socket)
}

/**
 * Sends an answer, also before the request was read to its end. Closing while the client still sends makes its system drop what it has
 * received, the answer too; so the answer goes out whole, and the connection ends once the client stops or has had its time.
 * @param close ends the connection in any case
 */
export function respond(request: IncomingMessage, response: ServerResponse, answer: Answer, close = false): void {
  if (response.headersSent || response.destroyed || request.socket.destroyed) return
  const unread = unreadBytes(request)
  const long = unread > shortBodyBytes
  const headers: Record<string, string | number> = { ...answer.headers }
  if (answer.status !== 204) headers['content-length'] = Buffer.byteLength(answer.body)
  if (close || long) headers.connection = 'close'
  response.writeHead(answer.status, headers)
  if (long) linger(request, response, answer.body)
  else {
    if (unread > 0) request.resume()
    response.end(answer.body)
  }
}

/** At most this much of the body is still to come; Infinity when the client did not say. */
function unreadBytes(request: IncomingMessage): number {
  if (request.complete) return 0
  if (request.headers['transfer-encoding'] !== undefined) return Number.POSITIVE_INFINITY
  return Number(request.headers['content-length'] ?? 0)
}

function linger(request: IncomingMessage, response: ServerResponse, body: string): void {
  lingering.add(request.socket)
  const end = () => {
    clearTimeout(timer)
    response.end()
  }
  const timer = setTimeout(end, lingerMs)
  request.once('end', end)
  request.once('close', end)
  response.write(body)
  request.resume()
}
