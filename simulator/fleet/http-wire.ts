import type { Pool } from 'undici'
import type { Answer, Message } from './message.ts'
import type { SimulatedDevice } from './simulated-device.ts'
import type { Wire, WireEvents } from './wire.ts'

const requestMs = 30_000
const retryMs = 1000

/** Requests of one device, one after the other, over connections that the fleet shares. */
export class HttpWire implements Wire {
  readonly oneAtATime = true
  readonly window: number
  readonly #pool: Pool
  readonly #device: SimulatedDevice
  readonly #events: WireEvents
  #closed = false

  constructor(pool: Pool, device: SimulatedDevice, events: WireEvents) {
    this.#pool = pool
    this.#device = device
    this.#events = events
    this.window = device.plan.group.batch
  }

  async open(): Promise<void> {}

  cut(): void {
    this.#closed = true
  }

  async close(): Promise<void> {
    this.#closed = true
  }

  send(messages: readonly Message[]): void {
    void this.#sendAll(messages)
  }

  async #sendAll(messages: readonly Message[]): Promise<void> {
    for (const request of requestsOf(messages, this.#device)) {
      if (this.#closed) return
      let answers: readonly Answer[]
      try {
        answers = await this.#post(request)
      } catch (error) {
        this.#events.lost((error as NodeJS.ErrnoException).code ?? (error as Error).message.slice(0, 60))
        return
      }
      for (const [index, message] of request.entries()) this.#events.answered(message, answers[index] as Answer)
      // What comes behind a message that has to be sent again may not overtake it.
      if (answers.some(({ kind }) => kind === 'again')) return
    }
  }

  async #post(messages: readonly Message[]): Promise<readonly Answer[]> {
    const { plan, token } = this.#device
    const { format } = plan
    const [first] = messages as [Message]
    const body =
      messages.length > 1 && format.join !== undefined
        ? format.join(messages.map(({ payload }) => payload))
        : first.payload
    const response = await this.#pool.request({
      method: 'POST',
      path: format.path({ token }),
      headers: { authorization: `Bearer ${token}`, 'content-type': format.contentType },
      body,
      headersTimeout: requestMs,
      bodyTimeout: requestMs,
    })
    const text = await response.body.text()
    const { statusCode: status, headers } = response
    if (status === 207) return itemAnswers(text, messages.length)
    const answer = answerOf(status, text, headers['retry-after'])
    return messages.map(() => answer)
  }
}

/** Messages that go together; one that cannot be decoded, or is sent twice on purpose, goes alone. */
function requestsOf(messages: readonly Message[], { plan }: SimulatedDevice): Message[][] {
  const requests: Message[][] = []
  let together: Message[] | undefined
  for (const message of messages) {
    const alone = message.values === undefined || message.copies > 1 || plan.format.join === undefined
    if (alone) {
      for (let copy = 0; copy < message.copies; copy++) requests.push([message])
      together = undefined
    } else if (together === undefined) {
      together = [message]
      requests.push(together)
    } else together.push(message)
  }
  return requests
}

function answerOf(status: number, text: string, retryAfter: string | string[] | undefined): Answer {
  if (status >= 200 && status < 300) return { kind: 'accepted' }
  if (status === 429 || status === 503) {
    const seconds = Number(retryAfter)
    return { kind: 'again', code: String(status), waitMs: seconds > 0 ? seconds * 1000 : retryMs }
  }
  const problem = parsed(text) as { parked?: unknown; code?: unknown } | undefined
  if (problem?.parked === true) return { kind: 'parked' }
  return { kind: 'refused', code: typeof problem?.code === 'string' ? `${status} ${problem.code}` : String(status) }
}

/** RFC 4918's 207: an answer an item. */
function itemAnswers(text: string, count: number): readonly Answer[] {
  const { items } = (parsed(text) ?? {}) as {
    items?: { index: number; status: number; code?: string; deadLetter?: string }[]
  }
  const answers = new Array<Answer>(count).fill({ kind: 'refused', code: '207' })
  for (const { index, status, code, deadLetter } of items ?? [])
    answers[index] =
      deadLetter === undefined ? answerOf(status, JSON.stringify({ code }), undefined) : { kind: 'parked' }
  return answers
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
