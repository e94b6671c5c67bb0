import type { Authenticator, AuthRefusal } from '../auth/authenticator.ts'
import { isGuessable, type LoginGuard } from '../auth/login-guard.ts'
import type { Principal } from '../auth/principal.ts'
import type { ReadConnect } from './connect.ts'
import type { Peer } from './peer.ts'

export interface LoginHost {
  /** @param delayMs how long a refusal must wait before it is told; 0 for who was let in */
  onLogin(answer: Principal | AuthRefusal, delayMs: number): void
  fail(error: unknown): void
}

/** What our own tokens begin with. */
const tokenPrefix = 'fb_'

/**
 * Finds out who a CONNECT comes from. Whoever fails again and again, from one address or with one name, hears so later and later. Somebody
 * who can do better is let in at once, but for secrets that people choose: those could be guessed, so after failures the next guess waits.
 */
export class Login {
  readonly #authenticator: Authenticator
  readonly #guard: LoginGuard
  readonly #host: LoginHost
  readonly #address: string
  /** Undefined where the secret came in its place: secrets are no keys. */
  readonly #name: string | undefined
  readonly #secret: string | undefined
  readonly #certificate: Peer['certificate']
  #waiting: NodeJS.Timeout | undefined
  #waitedMs = 0
  #isOver = false

  constructor(authenticator: Authenticator, guard: LoginGuard, host: LoginHost, peer: Peer, connect: ReadConnect) {
    this.#authenticator = authenticator
    this.#guard = guard
    this.#host = host
    this.#address = peer.address
    const { username, password } = connect.packet
    this.#certificate = peer.certificate
    if (password !== undefined && password.length > 0) {
      this.#secret = password.toString()
      this.#name = username
    } else if (peer.certificate !== undefined && username?.startsWith(tokenPrefix) !== true) {
      this.#name = username // beside a certificate it is a name
    } else this.#secret = username // the token alone
  }

  start(): void {
    const waitMs = isGuessable(this.#secret) ? this.#guard.delayMs(this.#address, this.#name, performance.now()) : 0
    this.#waitedMs = waitMs
    if (waitMs === 0) this.#authenticate()
    // Once only: while others go on failing, somebody whose password is right must get in, and within the time of a CONNECT.
    else this.#waiting = setTimeout(() => this.#guarded(() => this.#authenticate()), waitMs)
  }

  /** Nobody waits for the answer any more. */
  cancel(): void {
    this.#isOver = true
    clearTimeout(this.#waiting)
  }

  #authenticate(): void {
    const answer = this.#authenticator.authenticate({
      username: this.#name,
      secret: this.#secret,
      certificate: this.#certificate,
    })
    if (!(answer instanceof Promise)) this.#onAnswer(answer)
    else
      answer.then(
        (settled) => this.#guarded(() => this.#onAnswer(settled)),
        (error) => this.#host.fail(error),
      )
  }

  #onAnswer(answer: Principal | AuthRefusal): void {
    let delayMs = 0
    if (answer === 'unknown' || answer === 'disabled') {
      const nowMs = performance.now()
      // Also when the client has hung up: a guess is a guess.
      this.#guard.failed(this.#address, this.#name, nowMs)
      delayMs = Math.max(0, this.#guard.delayMs(this.#address, this.#name, nowMs) - this.#waitedMs)
    }
    if (!this.#isOver) this.#host.onLogin(answer, delayMs)
  }

  #guarded(step: () => void): void {
    try {
      step()
    } catch (error) {
      this.#host.fail(error)
    }
  }
}
