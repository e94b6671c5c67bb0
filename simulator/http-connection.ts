import { connect, type Socket } from 'node:net'

/** @param status 0 when there was no answer; `body` is then an error code of the system */
export type OnAnswer = (status: number, head: string, body: string) => void

/** Past this much an answer is no answer of ours. */
const maxAnswerBytes = 65_536

/**
 * One kept HTTP/1.1 connection that carries one request at a time, connecting when it has something to send. node:http costs 92 µs a
 * request, most of it in objects that a simulated device has no use for; this costs a quarter of that.
 */
export class HttpConnection {
  readonly #host: string
  readonly #port: number
  #socket: Socket | undefined
  #onAnswer: OnAnswer | undefined
  #sentAtMs = 0
  #received: Buffer | undefined
  #failure = 'ECONNRESET'

  constructor(host: string, port: number) {
    this.#host = host
    this.#port = port
  }

  /** @param request all of it, ASCII; the one before must have been answered */
  send(request: string, onAnswer: OnAnswer): void {
    this.#onAnswer = onAnswer
    this.#sentAtMs = performance.now()
    const socket = this.#socket ?? this.#connect()
    socket.write(request, 'latin1')
  }

  /** Gives up a request that has waited too long. */
  expire(nowMs: number, timeoutMs: number): void {
    if (this.#onAnswer === undefined || nowMs - this.#sentAtMs < timeoutMs) return
    this.#failure = 'ETIMEDOUT'
    this.#socket?.destroy()
  }

  /** The request under way, if any, is not answered any more. */
  close(): void {
    this.#onAnswer = undefined
    this.#socket?.destroy()
    this.#socket = undefined
  }

  #connect(): Socket {
    this.#failure = 'ECONNRESET'
    this.#received = undefined
    const socket = connect({
      host: this.#host,
      port: this.#port,
      noDelay: true,
      onread: {
        buffer: Buffer.allocUnsafeSlow(4096),
        callback: (bytes, buffer) => {
          if (socket === this.#socket) this.#onBytes(socket, Buffer.from(buffer.buffer, buffer.byteOffset, bytes))
          return true
        },
      },
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.#failure = error.code ?? 'error'
    })
    socket.on('end', () => socket.destroy())
    socket.on('close', () => this.#onClose(socket))
    this.#socket = socket
    return socket
  }

  #onBytes(socket: Socket, chunk: Buffer): void {
    // The chunk lies in the socket's one buffer, which the next read overwrites.
    const bytes = this.#received === undefined ? chunk : Buffer.concat([this.#received, chunk])
    const answer = readAnswer(bytes)
    if (answer === 'bad' || (answer === 'more' && bytes.length > maxAnswerBytes)) {
      this.#failure = 'not HTTP'
      socket.destroy()
    } else if (answer === 'more') this.#received = bytes === chunk ? Buffer.from(chunk) : bytes
    else {
      this.#received = undefined
      if (answer.last) {
        // The other side closes it after this answer: what is sent next needs another.
        this.#socket = undefined
        socket.end()
      }
      this.#answer(answer.status, answer.head, answer.body)
    }
  }

  #onClose(socket: Socket): void {
    if (socket !== this.#socket) return
    this.#socket = undefined
    const bytes = this.#received
    this.#received = undefined
    // An answer without a length ends with its connection.
    const answer = bytes === undefined ? 'more' : readAnswer(bytes, true)
    if (typeof answer === 'object') this.#answer(answer.status, answer.head, answer.body)
    else this.#answer(0, '', this.#failure)
  }

  #answer(status: number, head: string, body: string): void {
    const onAnswer = this.#onAnswer
    this.#onAnswer = undefined
    onAnswer?.(status, head, body)
  }
}

interface Answer {
  readonly status: number
  /** Status line and header fields. */
  readonly head: string
  readonly body: string
  /** No other follows on this connection. */
  readonly last: boolean
}

/** Reads one whole answer (RFC 9112 §6.3), or says that more bytes are needed. `ended`: no more will come. */
function readAnswer(bytes: Buffer, ended = false): Answer | 'more' | 'bad' {
  const headEnd = bytes.indexOf('\r\n\r\n', 0, 'latin1')
  if (headEnd < 0) return bytes.length >= 5 && bytes.toString('latin1', 0, 5) !== 'HTTP/' ? 'bad' : 'more'
  const head = bytes.toString('latin1', 0, headEnd)
  const status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(head)?.[1] ?? 0)
  if (status === 0) return 'bad'
  const from = headEnd + 4
  if (status < 200) return readAnswer(bytes.subarray(from), ended)
  const last = /\r\nconnection: *close/i.test(head)
  const length = status === 204 || status === 304 ? 0 : lengthOf(head)
  if (length !== undefined) {
    if (bytes.length < from + length) return 'more'
    return { status, head, body: bytes.toString('utf8', from, from + length), last }
  }
  const body = bytes.toString('utf8', from)
  if (/\r\ntransfer-encoding:[^\r]*chunked/i.test(head))
    return /(^|\r\n)0+\r\n(.*\r\n)?\r\n$/s.test(body) ? { status, head, body, last } : 'more'
  return ended ? { status, head, body, last: true } : 'more'
}

function lengthOf(head: string): number | undefined {
  const digits = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1]
  return digits === undefined ? undefined : Number(digits)
}
