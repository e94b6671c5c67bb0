import type { AuthRefusal } from '../auth/authenticator.ts'
import type { Principal } from '../auth/principal.ts'
import type { Client, ClientConnection } from './client.ts'
import {
  type AcceptedConnect,
  judgeConnect,
  type ReadConnect,
  type RefusedConnect,
  refusedBy,
  refusedForQuota,
} from './connect.ts'
import type { Front } from './front.ts'
import { Login, type LoginHost } from './login.ts'
import type { Peer } from './peer.ts'

export interface AdmissionHost extends ClientConnection {
  /** It may come in now. */
  enter(connect: AcceptedConnect): void
  /** Nobody but this connection notices: what has a live session under the same client id goes on. */
  refuse(refusal: RefusedConnect): void
  fail(error: unknown): void
}

/**
 * The way of a CONNECT from its first reading to its answer: who it comes from, whether that one may come in, and when. No packet is read
 * meanwhile.
 */
export class Admission implements LoginHost {
  /** False once it is known who it comes from: from then on it waits because we want it to. */
  isJudging = true
  readonly #front: Front
  readonly #host: AdmissionHost
  readonly #connect: ReadConnect
  readonly #endsMs: number
  readonly #login: Login
  #delay: NodeJS.Timeout | undefined
  /** Whose turn it waits for. */
  #waitsFor: Client | undefined
  #isOver = false

  /** @param endsMs when a CONNECT must have its answer */
  constructor(front: Front, host: AdmissionHost, peer: Peer, connect: ReadConnect, endsMs: number) {
    this.#front = front
    this.#host = host
    this.#connect = connect
    this.#endsMs = endsMs
    this.#login = new Login(front.authenticator, front.loginGuard, this, peer, connect)
  }

  start(): void {
    this.#login.start()
  }

  /** It has come in, or the connection has ended. */
  stop(): void {
    this.#isOver = true
    clearTimeout(this.#delay)
    this.#login.cancel()
    if (this.#waitsFor?.waiting === this.#host) this.#waitsFor.waiting = undefined
    this.#waitsFor = undefined
  }

  fail(error: unknown): void {
    this.#host.fail(error)
  }

  onLogin(answer: Principal | AuthRefusal, delayMs: number): void {
    if (this.#isOver) return
    this.isJudging = false
    if (typeof answer === 'string') {
      // Within the time that every CONNECT has, so that nobody is kept for longer than who says nothing.
      const waitMs = Math.min(delayMs, this.#endsMs - performance.now())
      this.#later(waitMs, () => this.#host.refuse(refusedBy(answer, this.#connect.version)))
      return
    }
    const judged = judgeConnect(this.#connect, answer, this.#front.config, this.#front.open)
    if ('result' in judged) this.#host.refuse(judged)
    else this.#waitForTurn(judged)
  }

  #waitForTurn(connect: AcceptedConnect): void {
    const client = this.#front.clients.get(connect.principal, connect.clientId)
    if (!this.#front.clients.hasRoomFor(client)) {
      this.#host.refuse(refusedForQuota(connect.version))
      return
    }
    client.waiting?.takeOver() // of several the one that came last gets in
    const waitMs = client.pacing.delayMs(performance.now())
    if (waitMs > 0) {
      this.#waitsFor = client
      client.waiting = this.#host
    }
    this.#later(waitMs, () => {
      // It may have waited for too long.
      if (this.#front.authenticator.isLive(connect.principal)) this.#host.enter(connect)
      else this.#host.refuse(refusedBy('disabled', connect.version))
    })
  }

  #later(waitMs: number, step: () => void): void {
    if (waitMs <= 0) step()
    else
      this.#delay = setTimeout(() => {
        try {
          step()
        } catch (error) {
          this.#host.fail(error)
        }
      }, waitMs)
  }
}
