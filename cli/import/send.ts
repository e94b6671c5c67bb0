import { setTimeout as sleep } from 'node:timers/promises'
import { BridgeError } from '#platform/errors.ts'
import { bodyOf, type ImportMessage } from './batch.ts'

/** What became of a message that was not taken for readings. */
export interface Parked {
  readonly message: ImportMessage
  readonly reason: string
}

export interface Sent {
  readonly readings: number
  readonly parked: readonly Parked[]
}

export interface SenderOptions {
  /** Such as http://localhost:8080. */
  readonly url: string
  readonly token: string
  /** How long a 401 may mean that the gateway has not heard of the token yet. */
  readonly newTokenMs: number
  /** Ends waiting; a request that is on its way is awaited. */
  readonly signal: AbortSignal
  /** Once for each wait at a limit. */
  readonly onWait?: (ms: number) => void
}

interface Item {
  readonly index: number
  readonly status: number
  readonly code?: string
  readonly deadLetter?: string
  readonly waitMs?: number
}

interface Body {
  readonly items?: readonly Item[]
  readonly detail?: string
  readonly code?: string
  readonly deadLetter?: string
  readonly parked?: boolean
  readonly waitMs?: number
}

const answerMs = 60_000
/** A gateway that is gone for longer is told to a person; the state lets the same command go on later. */
const goneMs = 120_000
const longestWaitMs = 30_000

/** Sends messages until each is stored or parked, in the gateway's own time. */
export class Sender {
  readonly #options: SenderOptions
  readonly #startMs = performance.now()

  constructor(options: SenderOptions) {
    this.#options = options
  }

  /**
   * @returns when all are stored or parked
   * @throws BridgeError BRIDGE_USAGE when the gateway does not let us in, BRIDGE_NOT_RUNNING when nothing answers for two minutes; an AbortError
   */
  async send(messages: readonly ImportMessage[]): Promise<Sent> {
    const parked: Parked[] = []
    let readings = 0
    let left = messages
    let lastAnswerMs = performance.now()
    while (left.length > 0) {
      const answer = await this.#post(left)
      const nowMs = performance.now()
      if (answer === undefined) {
        if (nowMs - lastAnswerMs > goneMs)
          throw new BridgeError('BRIDGE_NOT_RUNNING', `no gateway answers at ${this.#options.url}`)
        await sleep(1000, undefined, { signal: this.#options.signal })
        continue
      }
      const { status, body, retryAfterMs } = answer
      if (status === 401 && nowMs - this.#startMs < this.#options.newTokenMs) {
        await sleep(100, undefined, { signal: this.#options.signal })
        continue
      }
      if (status === 413) {
        const halves = await this.#sendHalves(left)
        return { readings: readings + halves.readings, parked: [...parked, ...halves.parked] }
      }
      const again: ImportMessage[] = []
      let waitMs = 0
      for (const [index, message] of left.entries()) {
        const item = body.items?.[index] ?? { ...body, index, status }
        if (item.status < 300) readings += message.readings
        else if (item.status === 429 || item.status >= 500) {
          again.push(message)
          waitMs = Math.max(waitMs, item.waitMs ?? 0)
        } else if (item.status === 400 || item.status === 403) parked.push({ message, reason: reasonOf(item, body) })
        else throw refused(this.#options.url, status, body)
      }
      if (again.length < left.length || status === 429) lastAnswerMs = nowMs
      if (status >= 500 && nowMs - lastAnswerMs > goneMs) throw refused(this.#options.url, status, body)
      left = again
      if (left.length === 0) break
      // The waits of single messages are finer than whole seconds; the longest lets all of them through together.
      const ms = Math.min(longestWaitMs, Math.max(50, waitMs || retryAfterMs))
      this.#options.onWait?.(ms)
      await sleep(ms, undefined, { signal: this.#options.signal })
    }
    return { readings, parked }
  }

  async #sendHalves(messages: readonly ImportMessage[]): Promise<Sent> {
    const [first] = messages as [ImportMessage]
    if (messages.length === 1 && first.rows.length === 1)
      return {
        readings: 0,
        parked: [{ message: first, reason: 'is too large for the gateway (BRIDGE_HTTP_MAX_BODY_BYTES)' }],
      }
    const halves =
      messages.length > 1 ? halved(messages) : halved(first.rows).map((rows) => [ofRows(first.device, rows)])
    let readings = 0
    const parked: Parked[] = []
    for (const half of halves) {
      const sent = await this.send(half)
      readings += sent.readings
      parked.push(...sent.parked)
    }
    return { readings, parked }
  }

  async #post(
    messages: readonly ImportMessage[],
  ): Promise<{ status: number; body: Body; retryAfterMs: number } | undefined> {
    this.#options.signal.throwIfAborted()
    try {
      const answer = await fetch(new URL('/v1/telemetry', this.#options.url), {
        method: 'POST',
        headers: { authorization: `Bearer ${this.#options.token}`, 'content-type': 'application/json' },
        body: bodyOf(messages),
        signal: AbortSignal.timeout(answerMs),
      })
      const body = (await answer.json().catch(() => ({}))) as Body
      return { status: answer.status, body, retryAfterMs: Number(answer.headers.get('retry-after') ?? 1) * 1000 }
    } catch {
      return undefined // away, or restarting: what it took of this before is a duplicate when it comes again
    }
  }
}

function ofRows(device: string, rows: ImportMessage['rows']): ImportMessage {
  return { device, rows, readings: rows.reduce((sum, { reading }) => sum + reading.readings, 0) }
}

function halved<T>(list: readonly T[]): [readonly T[], readonly T[]] {
  const middle = Math.ceil(list.length / 2)
  return [list.slice(0, middle), list.slice(middle)]
}

function reasonOf({ code, deadLetter }: Omit<Item, 'index'>, { detail, items }: Body): string {
  const words = items === undefined || items.length === 1 ? (detail ?? '') : ''
  const what = `${code ?? 'refused'}${words === '' ? '' : `: ${words}`}`
  return deadLetter === undefined ? what : `${what} (the gateway holds it as dead letter ${deadLetter})`
}

function refused(url: string, status: number, { detail }: Body): BridgeError {
  const more =
    status === 401 ? ' --token must be that of a fleet credential (npx fleetbridge credentials add --fleet).' : ''
  return new BridgeError(
    'BRIDGE_USAGE',
    `the gateway at ${url} answered ${status}: ${detail ?? 'without a reason'}.${more}`,
  )
}
