import type { IncomingMessage, ServerResponse } from 'node:http'
import type { ClientAddresses } from '#platform/client-addresses.ts'
import { uuidV7 } from '#platform/uuid-v7.ts'
import type { Authenticator, AuthRefusal, Presented } from '../auth/authenticator.ts'
import { isGuessable, type LoginGuard } from '../auth/login-guard.ts'
import type { Principal } from '../auth/principal.ts'
import { type CertificateReader, certificateShownOn } from '../auth/shown-certificate.ts'
import { presentedBy, presentedInQuery } from './credentials.ts'
import { Exchange, type Intake, noRoom, type Refusal, requestBytes, type Unanswered } from './exchange.ts'
import { problem } from './problem.ts'
import { respond } from './respond.ts'
import { type Route, topicOf } from './routes.ts'

/** What every request passes before its body is read. */
export interface Door {
  readonly intake: Intake
  readonly authenticator: Authenticator
  readonly loginGuard: LoginGuard
  readonly addresses: ClientAddresses
  readonly clientCertificateOf: CertificateReader
}

/** What the path says. */
export interface Target {
  readonly route: Route
  readonly token?: string
  readonly device?: string
}

/**
 * Finds out who a request comes from, and lets it in or turns it away, before a byte of its body is read. Every request is asked anew, also on a
 * connection that stays: a revoked credential ends with the next one.
 */
export function takeIn(door: Door, target: Target, request: IncomingMessage, response: ServerResponse): void {
  const login = new Login(door, target, request, response)
  if (door.intake.closing) login.turnAway(stoppingRefusal)
  else login.start()
}

/** Nothing is kept of it once its sender is known; most are known at once. */
class Login implements Unanswered {
  readonly request: IncomingMessage
  readonly #response: ServerResponse
  readonly #door: Door
  readonly #target: Target
  readonly #presented: Presented
  #timer: NodeJS.Timeout | undefined
  #isWaiting = false
  #isOver = false
  /** Why it is the last request of its connection. */
  #interrupted: Refusal | undefined

  constructor(door: Door, target: Target, request: IncomingMessage, response: ServerResponse) {
    this.#door = door
    this.#target = target
    this.request = request
    this.#response = response
    this.#presented = presentedIn(target, request, door.clientCertificateOf)
  }

  start(): void {
    const { secret } = this.#presented
    const waitMs = isGuessable(secret) ? this.#delayMs() : 0
    if (waitMs === 0) this.#ask()
    else if (this.#wait()) this.#timer = setTimeout(() => this.#ask(), waitMs)
  }

  interrupt(refusal: Refusal): void {
    this.#interrupted = refusal
    if (!this.request.complete || this.#door.intake.closing) this.turnAway(refusal)
  }

  turnAway({ code, id = uuidV7(), ...options }: Refusal): void {
    const { intake } = this.#door
    this.#leave()
    intake.countRefused(code)
    const answer = problem(code, { id, ...options })
    intake.counts.count(this.#target.route.pattern, answer.status)
    respond(this.request, this.#response, answer, intake.closing || this.#interrupted !== undefined)
    intake.left()
  }

  #ask(): void {
    const answer = this.#door.authenticator.authenticate(this.#presented)
    if (!(answer instanceof Promise)) this.#onAnswer(answer)
    else if (this.#wait())
      answer.then(
        (settled) => this.#onAnswer(settled),
        (error: unknown) => this.#onFailure(error),
      )
  }

  #onAnswer(answer: Principal | AuthRefusal): void {
    if (typeof answer === 'string') this.#refuse(answer)
    else if (this.#isOver) return
    else if (answer.operator) this.turnAway(operatorRefusal)
    else {
      this.#leave()
      const { route, device } = this.#target
      const asked = { route, principal: answer, device, topic: topicOf(route, this.request.url ?? '') }
      const exchange = new Exchange(this.#door.intake, asked, this.request, this.#response)
      exchange.start()
      if (this.#interrupted !== undefined) exchange.interrupt(this.#interrupted)
    }
  }

  #refuse(refusal: AuthRefusal): void {
    const delayMs = refusal === 'unavailable' ? 0 : this.#delayMs()
    // Also when the client has hung up: a guess is a guess.
    if (refusal !== 'unavailable')
      this.#door.loginGuard.failed(this.#address(), this.#presented.username, performance.now())
    if (this.#isOver) return
    if (delayMs > 0) this.turnAway({ ...refusals[refusal], status: 429, waitMs: delayMs, detail: tooManyFailures })
    else this.turnAway(refusals[refusal])
  }

  #onFailure(error: unknown): void {
    const id = uuidV7()
    this.#door.intake.log.error({ err: error, route: this.#target.route.pattern, id }, 'a login failed')
    if (!this.#isOver) this.turnAway({ code: 'internal', detail: 'the gateway failed; see its log', id })
  }

  /** Holds its place while it waits. @returns false when it was turned away for want of room */
  #wait(): boolean {
    const { room, open } = this.#door.intake
    if (this.#isWaiting) return true
    if (!room.has(requestBytes)) {
      this.turnAway(noRoom)
      return false
    }
    this.#isWaiting = true
    room.take(requestBytes)
    open.add(this)
    this.#response.once('close', () => this.#onClose())
    return true
  }

  /** The client has gone. */
  #onClose(): void {
    if (this.#isOver) return
    this.#leave()
    this.#door.intake.left()
  }

  #leave(): void {
    this.#isOver = true
    clearTimeout(this.#timer)
    if (!this.#isWaiting) return
    this.#isWaiting = false
    this.#door.intake.room.give(requestBytes)
    this.#door.intake.open.delete(this)
  }

  #delayMs(): number {
    return this.#door.loginGuard.delayMs(this.#address(), this.#presented.username, performance.now())
  }

  #address(): string {
    return this.#door.addresses.of(this.request.socket)
  }
}

/** A certificate counts when nothing else is shown. Not a browser's: it shows the user's certificate for whatever page it is on. */
function presentedIn(
  { route, token }: Target,
  { headers, socket, url = '' }: IncomingMessage,
  clientCertificateOf: CertificateReader,
): Presented {
  if (route.tokenInPath) return { secret: token }
  const { authorization, origin } = headers
  if (route.queryCredentials === true && authorization === undefined) {
    const { token: secret, username } = presentedInQuery(url)
    if (secret !== undefined) return { secret, username }
  }
  if (authorization === undefined && origin === undefined)
    return { certificate: certificateShownOn(socket, clientCertificateOf) }
  const presented = presentedBy(authorization)
  return { secret: presented.token, username: presented.username }
}

export const stoppingRefusal: Refusal = {
  code: 'shutting_down',
  detail: 'the gateway is stopping; send it again, elsewhere if there is another',
}

const challenge = { 'www-authenticate': 'Bearer realm="fleetbridge", Basic realm="fleetbridge", charset="UTF-8"' }
const tooManyFailures = 'too many failed logins from this address or with this name; wait before the next'

const refusals: Record<AuthRefusal, Refusal> = {
  unknown: {
    code: 'not_authenticated',
    detail: 'Authorization must be Bearer, Token or Basic (password = token) with a token that is known here',
    headers: challenge,
  },
  disabled: {
    code: 'credential_disabled',
    detail: 'the token is known, but disabled, revoked or expired',
    headers: challenge,
  },
  unavailable: { code: 'credentials_unavailable', detail: 'credentials could not be loaded yet; come back soon' },
}

const operatorRefusal: Refusal = { code: 'not_allowed', detail: 'an operator credential sends no telemetry' }
