import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import { uuidV7 } from '#platform/uuid-v7.ts'
import type { Unanswered } from './exchange.ts'
import { problem } from './problem.ts'
import { isLingering } from './respond.ts'

/** What cannot be read as a request, or does not come in time. */
export function onClientError(error: Error, socket: Socket, open: Iterable<Unanswered>): void {
  const { code } = error as NodeJS.ErrnoException
  if (code === 'ECONNRESET' || socket.destroyed || isLingering(socket)) return
  const { status, detail } = faultOf(code)
  // Written here, this answer would be taken for that of a request before it: such a request ends the connection with its own.
  let isAwaited = false
  for (const exchange of open)
    if (exchange.request.socket === socket) {
      isAwaited = true
      exchange.interrupt({ code: 'protocol_error', detail, status })
    }
  if (isAwaited) return
  if (!socket.writable) return void socket.destroy()
  const { headers, body } = problem('protocol_error', { detail, id: uuidV7(), status })
  const lines = Object.entries({ ...headers, connection: 'close', 'content-length': Buffer.byteLength(body) })
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n${body}`,
    () => socket.destroy(),
  )
}

function faultOf(code: string | undefined): { status: number; detail: string } {
  switch (code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return { status: 408, detail: 'the request did not come in time' }
    case 'HPE_HEADER_OVERFLOW':
      return { status: 431, detail: 'the header fields are too large' }
    default:
      return { status: 400, detail: 'this is not an HTTP/1.1 request' }
  }
}
