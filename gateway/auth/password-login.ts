import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import type { Log } from '#platform/log.ts'
import type { AuthRefusal } from './authenticator.ts'
import type { PasswordCredential } from './credential.ts'
import type { KnownCredentials } from './known-credentials.ts'
import type { KnownDevice } from './known-device.ts'
import { maxPasswordBytes, verifyPassword } from './password-hash.ts'
import { PasswordQueue } from './password-queue.ts'

type Answer = PasswordCredential | AuthRefusal

/** Of one device, the live and then the newest first: each costs a wrong guess 0.1 s. */
const maxTried = 4
const maxWaitingOfDevice = 4
const maxWaitingOfUnknown = 32

/** Checked where no password is: an unknown user name takes as long as a wrong password. Nothing hashes to it. */
const noPassword = `$scrypt$ln=15,r=8,p=1$${bare(randomBytes(16))}$${bare(randomBytes(32))}`

/** Chosen passwords. The first time each costs scrypt, in a queue; afterwards it is known by a keyed hash, so a fleet that comes back does not pay again. */
export class PasswordLogin {
  readonly #known: KnownCredentials
  readonly #log: Log
  readonly #queue = new PasswordQueue<KnownDevice | undefined>()
  /** Of this process alone: a dump of the hashes says nothing without it. */
  readonly #key = randomBytes(32)
  /** The same guess many times at once is one check. */
  readonly #inHand = new Map<string, Promise<Answer>>()

  constructor(known: KnownCredentials, log: Log) {
    this.#known = known
    this.#log = log
  }

  check(username: string, password: string): Answer | Promise<Answer> {
    // Where nobody has a password there is nothing to hide, and nothing to compute.
    if (!this.#known.hasPasswords || Buffer.byteLength(password) > maxPasswordBytes) return 'unknown'
    const owner = this.#ownerOf(username)
    const candidates = candidatesOf(owner)
    for (const candidate of candidates)
      if (candidate.verified !== undefined && timingSafeEqual(candidate.verified, this.#macOf(candidate, password)))
        return judged(candidate)
    return this.#once(`${username}\0${password}`, owner, () => this.#verify(candidates, password))
  }

  /** `device@tenant`, or `device` of the tenant `default`. Other tenants' bare names would meet each other here. */
  #ownerOf(username: string): KnownDevice | undefined {
    const { devices } = this.#known
    const at = username.lastIndexOf('@') // a tenant's name holds none
    const named = at < 0 ? undefined : devices.find(username.slice(at + 1), username.slice(0, at))
    return named?.passwords === undefined ? devices.find('default', username) : named
  }

  #once(guess: string, owner: KnownDevice | undefined, verify: () => Promise<Answer>): Promise<Answer> {
    const key = createHmac('sha256', this.#key).update(guess).digest('binary')
    const before = this.#inHand.get(key)
    if (before !== undefined) return before
    const lane = owner?.passwords === undefined ? undefined : owner
    const maxInLane = lane === undefined ? maxWaitingOfUnknown : maxWaitingOfDevice
    const answer = this.#queue
      .run(lane, maxInLane, verify)
      .then((found) => found ?? 'unavailable')
      .catch((error: unknown) => {
        this.#log.error({ err: error }, 'a password cannot be verified')
        return 'unavailable' as const
      })
      .finally(() => this.#inHand.delete(key))
    this.#inHand.set(key, answer)
    return answer
  }

  async #verify(candidates: readonly PasswordCredential[], password: string): Promise<Answer> {
    if (candidates.length === 0) await verifyPassword(password, noPassword)
    for (const candidate of candidates)
      if (await verifyPassword(password, candidate.passwordHash)) {
        candidate.verified = this.#macOf(candidate, password)
        return judged(candidate)
      }
    return 'unknown'
  }

  /** With the credential's id, so that equal passwords of two devices do not look equal. */
  #macOf({ credentialId }: PasswordCredential, password: string): Buffer {
    return createHmac('sha256', this.#key).update(credentialId).update(password).digest()
  }
}

function candidatesOf(owner: KnownDevice | undefined): readonly PasswordCredential[] {
  const passwords = owner?.passwords
  if (passwords === undefined || passwords.length <= 1) return passwords ?? []
  return [...passwords.filter(({ usable }) => usable), ...passwords.filter(({ usable }) => !usable)].slice(0, maxTried)
}

/** Only who knows the password learns that it was revoked. */
function judged(credential: PasswordCredential): Answer {
  return credential.isLive(Date.now()) ? credential : 'disabled'
}

function bare(bytes: Buffer): string {
  return bytes.toString('base64').replaceAll('=', '')
}
