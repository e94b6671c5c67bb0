import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import type { Log } from '#platform/log.ts'
import { uuidV7 } from '#platform/uuid-v7.ts'
import type { ReasonCode } from '#schema/reason-code.ts'
import type { Principal } from '../auth/principal.ts'
import { type Envelope, Lane } from '../envelope.ts'
import type { Charge, Ingress } from '../ingress.ts'
import { splitInfluxLines } from '../normalize/split-influx-lines.ts'
import type { Pipeline } from '../pipeline-port.ts'
import type { Routes } from '../routes/route-table.ts'
import type { Verdict } from '../verdict.ts'
import { acceptedOne, answerTo } from './answer.ts'
import { answerToBatch, batchTaken } from './answer-batch.ts'
import { carriedHeaders } from './carried-headers.ts'
import { idempotencyKey, itemKey } from './idempotency-key.ts'
import type { Inflated, Inflater } from './inflater.ts'
import { type Answer, type ProblemOptions, problem } from './problem.ts'
import type { RequestCounts } from './request-counts.ts'
import { respond } from './respond.ts'
import type { Room } from './room.ts'
import type { Route } from './routes.ts'
import { type Split, splitBody } from './split-body.ts'

/** A request that has no answer yet. */
export interface Unanswered {
  readonly request: IncomingMessage
  /** The gateway stops, or what follows cannot be read: it is turned away, unless it has come whole, and is the last of its connection. */
  interrupt(refusal: Refusal): void
}

/** What all requests of the source share. */
export interface Intake {
  readonly pipeline: Pipeline
  readonly log: Log
  readonly maxBodyBytes: number
  readonly maxItems: number
  readonly holdMs: number
  readonly room: Room
  readonly inflater: Inflater
  readonly counts: RequestCounts
  /** What operators have said about paths. */
  readonly routes: Routes | undefined
  /** Requests that are not answered yet. */
  readonly open: Set<Unanswered>
  closing: boolean
  countRefused(reason: ReasonCode): void
  /** A request was answered, or its sender has gone. */
  left(): void
}

/** Who asks for what, as the head of the request says. */
export interface Asked {
  readonly route: Route
  readonly principal: Principal
  /** The device that the path names. */
  readonly device: string | undefined
  /** The path with its query, without a token. */
  readonly topic: string
}

/** Why a request is turned away before any of its messages was handed on. */
export interface Refusal extends Omit<ProblemOptions, 'id'> {
  readonly code: ReasonCode
  readonly id?: string
}

/** What Node and we keep for a request and for a message while they are in hand, roughly: a bound on bytes must see it. */
export const requestBytes = 4096
const messageBytes = 512

/**
 * One request, from its head to its answer: reads the body within bounds, hands its messages on, collects their verdicts and answers once,
 * when the last is there or the time is up.
 */
export class Exchange implements Unanswered {
  readonly request: IncomingMessage
  readonly #intake: Intake
  readonly #asked: Asked
  readonly #response: ServerResponse
  #state: 'receiving' | 'deciding' | 'waiting' | 'answered' = 'receiving'
  #chunks: Buffer[] = []
  #received = 0
  /** What it has taken of the room. */
  #held = 0
  #verdicts: (Verdict | undefined)[] = []
  #unsettled = 0
  #timer: NodeJS.Timeout | undefined = undefined
  #isLast = false

  constructor(intake: Intake, asked: Asked, request: IncomingMessage, response: ServerResponse) {
    this.#intake = intake
    this.#asked = asked
    this.request = request
    this.#response = response
  }

  /** Reads the body, or turns the request away by its head alone. */
  start(): void {
    this.#intake.open.add(this)
    const { headers, httpVersionMinor } = this.request
    const refusal = this.#refusalOfHead(headers)
    if (refusal !== undefined) {
      this.#turnAway(refusal)
      return
    }
    this.#hold(requestBytes)
    if (headers.expect !== undefined && httpVersionMinor > 0) this.#response.writeContinue()
    if (Number(headers['content-length'] ?? 0) === 0 && headers['transfer-encoding'] === undefined) this.#onEnd()
    else {
      this.request.on('data', (chunk: Buffer) => this.#onData(chunk))
      this.request.on('end', () => this.#onEnd())
      this.request.on('close', () => this.#onClose())
    }
  }

  /** The gateway stops, or what follows cannot be read. A request that has come whole goes on, but its answer ends the connection. */
  interrupt(refusal: Refusal): void {
    this.#isLast = true
    if (this.#state === 'receiving' && !this.request.complete) this.#turnAway(refusal)
  }

  /** One message's verdict. Until the last of them the request keeps its room, also when the time was up and nobody waits: so do the messages. */
  settle(index: number, verdict: Verdict): void {
    this.#verdicts[index] = verdict
    if (--this.#unsettled > 0) return
    if (this.#state === 'waiting') this.#answer()
    this.#release()
  }

  #refusalOfHead(headers: IncomingHttpHeaders): Refusal | undefined {
    const { room, maxBodyBytes } = this.#intake
    const declared = Number(headers['content-length'] ?? 0)
    if (declared > maxBodyBytes) return tooLarge(maxBodyBytes)
    if (!isKnownEncoding(headers['content-encoding'])) return unknownEncoding
    if (idempotencyKey(headers) === null) return badIdempotencyKey
    return room.has(requestBytes + declared) ? undefined : noRoom
  }

  #onData(chunk: Buffer): void {
    if (this.#state !== 'receiving') return
    const { room, maxBodyBytes } = this.#intake
    this.#received += chunk.length
    if (this.#received > maxBodyBytes) this.#turnAway(tooLarge(maxBodyBytes))
    else if (!room.has(chunk.length)) this.#turnAway(noRoom)
    else {
      this.#hold(chunk.length)
      this.#chunks.push(chunk)
    }
  }

  #onEnd(): void {
    if (this.#state !== 'receiving') return
    this.#state = 'deciding'
    const body = this.#chunks.length === 1 ? (this.#chunks[0] as Buffer) : Buffer.concat(this.#chunks, this.#received)
    this.#chunks = []
    if (isPlain(this.request.headers['content-encoding'])) this.#decide(body)
    else this.#intake.inflater.inflate(body, (inflated) => this.#onInflated(inflated))
  }

  #onInflated(inflated: Inflated): void {
    const { maxBodyBytes } = this.#intake
    this.#unhold(this.#received)
    if (inflated === 'malformed') this.#turnAway(notGzip)
    else if (inflated === 'too_large') this.#turnAway(tooLarge(maxBodyBytes, ' after inflation'))
    else {
      this.#hold(inflated.length)
      this.#decide(inflated)
    }
  }

  /** The client went away: what has not been handed on is forgotten. */
  #onClose(): void {
    if (this.#state !== 'receiving') return
    this.#leave()
    this.#release()
  }

  #decide(body: Buffer): void {
    try {
      const refusal = this.#handOn(body)
      if (refusal !== undefined) this.#turnAway(refusal)
    } catch (error) {
      const id = uuidV7()
      this.#intake.log.error({ err: error, route: this.#asked.route.pattern, id }, 'a request failed')
      clearTimeout(this.#timer)
      this.#unsettled = 0
      this.#turnAway({ code: 'internal', detail: 'the gateway failed; see its log', id })
    }
  }

  #handOn(body: Buffer): Refusal | undefined {
    const { maxItems, room, holdMs, pipeline } = this.#intake
    const split = this.#split(body)
    const count = split?.parts.length ?? 1
    if (count === 0) {
      this.#send(batchTaken) // only a batch can be empty: a client looks whether it may write
      this.#release()
      return undefined
    }
    if (count > maxItems) return tooManyItems(maxItems)
    if (!room.has(count * messageBytes)) return noRoom // also when inflation has brought more than there was room for
    this.#hold(count * messageBytes)
    this.#verdicts = new Array<Verdict | undefined>(count).fill(undefined)
    this.#unsettled = count
    this.#state = 'waiting'
    this.#timer = setTimeout(holdOver, holdMs, this)
    const ingressOf = this.#ingressMaker(count)
    const { device } = this.#asked
    if (split?.kind === 'batch') {
      const lane = new Lane()
      let charge: Charge = { messages: count, bytes: body.length }
      for (const [index, part] of split.parts.entries()) {
        pipeline.push(new BatchMessage(this, index, ingressOf(part, device, false, charge), lane))
        charge = nothing
      }
    } else if (split === undefined) pipeline.push(new HttpMessage(this, 0, ingressOf(body, device, false)))
    else if (split.kind === 'fleet')
      for (const [index, { key, value }] of split.parts.entries())
        pipeline.push(new HttpMessage(this, index, ingressOf(value, key, false)))
    else
      for (const [index, part] of split.parts.entries())
        pipeline.push(new HttpMessage(this, index, ingressOf(part, device, split.kind === 'array')))
    return undefined
  }

  #split(body: Buffer): Split | undefined {
    const { route, principal, topic } = this.#asked
    if (route.lines === true) return { kind: 'batch', parts: splitInfluxLines(body, this.#intake.maxItems) }
    const { headers } = this.request
    // CloudEvents in binary mode: the body is one event's data, whatever it looks like.
    if (!route.splits || headers['ce-specversion'] !== undefined) return undefined
    const contentType = headers['content-type']
    const routed = this.#intake.routes?.find({ source: 'http', topic, contentType, principal })
    // An array may be one message of the codec that an operator has chosen, as a SenML pack is.
    if (routed?.rule.codec !== undefined && !splitCodecs.has(routed.rule.codec.name)) return undefined
    return splitBody(body, {
      contentType,
      fleet: route.fleetBodies && principal.fleet,
      maxItems: this.#intake.maxItems,
    })
  }

  /** All messages of a request arrived at once. */
  #ingressMaker(
    count: number,
  ): (payload: Buffer, device: string | undefined, arrayElement: boolean, charge?: Charge) => Ingress {
    const { principal, topic, route } = this.#asked
    const isBatch = route.lines === true
    const contentType = this.request.headers['content-type']
    const key = idempotencyKey(this.request.headers) ?? undefined
    let index = 0
    const headers = carriedHeaders(this.request.headers)
    const ingestTimeUs = Date.now() * 1000
    const arrivedAtMs = performance.now()
    return (payload, device, arrayElement, charge) => ({
      principal,
      source: 'http',
      topic,
      contentType,
      headers,
      payload,
      device,
      // Each has its own status, so a device outside the credential's pattern can be refused alone, but for the lines of a batch.
      fleetItem: isBatch && principal.fleet,
      arrayElement,
      charge,
      messageKey: key === undefined ? undefined : itemKey(key, index++, count),
      acknowledgesParked: isBatch || route.acknowledgesParked === true,
      ingestTimeUs,
      arrivedAtMs,
    })
  }

  /** Called by the timer: what has no verdict yet gets the one that says so. */
  timeIsUp(): void {
    if (this.#state !== 'waiting') return
    for (let index = 0; index < this.#verdicts.length; index++) this.#verdicts[index] ??= noAnswer
    this.#answer()
  }

  #answer(): void {
    clearTimeout(this.#timer)
    const id = uuidV7()
    const verdicts = this.#verdicts as Verdict[]
    if (this.#asked.route.lines === true) {
      this.#send(answerToBatch(verdicts, id))
      return
    }
    if (this.#asked.route.acknowledgesParked === true && verdicts.every(isKept)) {
      this.#send(nothingForApp)
      return
    }
    const isOne = verdicts.length === 1 && verdicts[0]?.kind === 'stored'
    const answer = isOne ? { status: 202, headers: json, body: acceptedOne(id) } : answerTo(verdicts, id)
    this.#send(answer.status === 202 && this.#asked.route.emptyAnswer ? emptyOk : answer)
  }

  /** Refused before any of its messages was handed on. */
  #turnAway({ code, id = uuidV7(), ...options }: Refusal): void {
    this.#intake.countRefused(code)
    this.#send(problem(code, { id, ...options }))
    this.#release()
  }

  #send(answer: Answer): void {
    const { counts, closing } = this.#intake
    counts.count(this.#asked.route.pattern, answer.status)
    this.#leave()
    respond(this.request, this.#response, answer, closing || this.#isLast)
  }

  #leave(): void {
    this.#state = 'answered'
    this.#chunks = []
    this.#intake.open.delete(this)
    this.#intake.left()
  }

  #hold(bytes: number): void {
    this.#held += bytes
    this.#intake.room.take(bytes)
  }

  #unhold(bytes: number): void {
    this.#held -= bytes
    this.#intake.room.give(bytes)
  }

  #release(): void {
    this.#unhold(this.#held)
  }
}

class HttpMessage implements Envelope {
  readonly ingress: Ingress
  /** No order among requests, and never held: a client is told at once. */
  readonly lane: Lane | undefined = undefined
  readonly holdUntilMs: number = 0
  readonly #exchange: Exchange
  readonly #index: number

  constructor(exchange: Exchange, index: number, ingress: Ingress) {
    this.#exchange = exchange
    this.#index = index
    this.ingress = ingress
  }

  settle(verdict: Verdict): void {
    this.#exchange.settle(this.#index, verdict)
  }
}

/**
 * One line of a batch. The first pays for all. When a limit refuses one, the lane is closed and those behind it are refused, too: were each to
 * pay for itself, a batch above the limit would be sent again for ever, its first lines using up what the others wait for.
 */
class BatchMessage extends HttpMessage {
  override readonly lane: Lane
  /** Long past, but not 0, which would leave the lane open. */
  override readonly holdUntilMs = 1

  constructor(exchange: Exchange, index: number, ingress: Ingress, lane: Lane) {
    super(exchange, index, ingress)
    this.lane = lane
  }
}

/** Codecs whose arrays hold a message an element. */
const splitCodecs = new Set(['own', 'generic', 'seed'])
const nothing: Charge = { messages: 0, bytes: 0 }
const json = { 'content-type': 'application/json' }
const emptyOk: Answer = { status: 200, headers: {}, body: '' }

/** What OwnTracks takes for "understood, and there is nothing for you": an empty body it cannot read, and sends the message again. */
const nothingForApp: Answer = { status: 200, headers: json, body: '[]' }

function isKept({ kind }: Verdict): boolean {
  return kind !== 'refused'
}

const noAnswer: Verdict = Object.freeze({
  kind: 'refused',
  code: 'event_log_unavailable',
  message:
    'the event log has not answered in time. The message may still be stored: send it again, and with its own time the copy is a duplicate',
})

export const noRoom: Refusal = { code: 'queue_full', detail: 'too many requests are in hand; come back soon' }
const notGzip: Refusal = { code: 'malformed', detail: 'the body is not gzip, or not all of it' }
const badIdempotencyKey: Refusal = {
  code: 'protocol_error',
  detail: 'Idempotency-Key must be one text of 1 to 200 printable ASCII characters, with or without quotes',
}
const unknownEncoding: Refusal = {
  code: 'unsupported',
  detail: 'a body may be compressed with gzip, with nothing else',
  status: 415,
  headers: { 'accept-encoding': 'gzip' },
}

function holdOver(exchange: Exchange): void {
  exchange.timeIsUp()
}

function tooLarge(maxBodyBytes: number, when = ''): Refusal {
  return { code: 'too_large', detail: `the body is larger than ${maxBodyBytes} bytes${when}` }
}

function tooManyItems(maxItems: number): Refusal {
  return { code: 'too_many_items', detail: `more than ${maxItems} messages in one request; send several requests` }
}

function isPlain(encoding: string | undefined): boolean {
  return encoding === undefined || encoding === '' || encoding.toLowerCase() === 'identity'
}

/** `x-gzip` is the same (RFC 9110 §8.4.1.3). */
function isKnownEncoding(encoding: string | undefined): boolean {
  return isPlain(encoding) || /^(x-)?gzip$/i.test(encoding ?? '')
}
