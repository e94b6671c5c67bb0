import { hash } from 'node:crypto'
import { addressKey } from '#platform/address-key.ts'

/** Longest wait that failures bring about: a right login is slowed by those of others, never refused. */
export const maxLoginDelayMs = 5000
/** Addresses, and names, whose failures are remembered; past it the one that failed longest ago is forgotten. */
const maxRemembered = 20_000
const longestNameKept = 64

interface Window {
  readonly failures: number
  readonly perMs: number
}

/** Failures not yet forgiven, one number for each window. */
interface Account {
  readonly used: number[]
  atMs: number
}

/**
 * Slows guessing. Failed logins are counted for each address and for each user name, in buckets that empty again at the limit's rate; past
 * the limit a login waits until there is room for a failure, but never longer than `maxLoginDelayMs`.
 *
 * The rule for callers: ask `delayMs` before a secret that could be guessed (see `isGuessable`) is looked at, and wait so long first. A token,
 * a JWT and a certificate cannot be guessed, so they are looked at at once, and a right one is let in at once: one device with a wrong token
 * must not slow the site that shares its address. Whatever was wrong is told only after the delay (or with 429, for the client to wait).
 */
export class LoginGuard {
  readonly #windows: readonly Window[]
  readonly #addresses = new Map<string, Account>()
  readonly #names = new Map<string, Account>()

  /** @param limit auth.failures: `10:60` is 10 failures in 60 s; several windows, separated by commas, all hold; `none` never delays */
  constructor(limit: string) {
    this.#windows = limit === 'none' ? [] : limit.split(',').map(windowOf)
  }

  /** @returns whole milliseconds to wait before this login is answered; 0 to `maxLoginDelayMs` */
  delayMs(address: string, name: string | undefined, nowMs: number): number {
    const ofName = name === undefined ? undefined : this.#names.get(keyOfName(name))
    return Math.max(this.#waitMs(this.#addresses.get(addressKey(address)), nowMs), this.#waitMs(ofName, nowMs))
  }

  /** A login was wrong. */
  failed(address: string, name: string | undefined, nowMs: number): void {
    if (this.#windows.length === 0) return
    this.#count(this.#addresses, addressKey(address), nowMs)
    if (name !== undefined) this.#count(this.#names, keyOfName(name), nowMs)
  }

  /** Addresses and names that are remembered at the moment. */
  get size(): number {
    return this.#addresses.size + this.#names.size
  }

  #waitMs(account: Account | undefined, nowMs: number): number {
    if (account === undefined) return 0
    let waitMs = 0
    for (const [index, { failures, perMs }] of this.#windows.entries()) {
      const used = Math.max(0, (account.used[index] ?? 0) - (nowMs - account.atMs) * perMs)
      if (used > failures - 1) waitMs = Math.max(waitMs, (used - failures + 1) / perMs)
    }
    return Math.min(maxLoginDelayMs, Math.ceil(waitMs))
  }

  #count(accounts: Map<string, Account>, key: string, nowMs: number): void {
    const known = accounts.get(key)
    const account = known ?? { used: this.#windows.map(() => 0), atMs: nowMs }
    for (const [index, { failures, perMs }] of this.#windows.entries()) {
      const used = Math.max(0, (account.used[index] ?? 0) - (nowMs - account.atMs) * perMs)
      // No deeper than twice the limit, so that everything is forgiven after two windows.
      account.used[index] = Math.min(2 * failures, used + 1)
    }
    account.atMs = nowMs
    // Removed and set again: a Map keeps the order of insertion, so the first is always the one that failed longest ago.
    if (known !== undefined) accounts.delete(key)
    else if (accounts.size >= maxRemembered) forgetOldest(accounts)
    accounts.set(key, account)
  }
}

/** Whether somebody could find this secret by trying: all but our tokens (256 bits) and JSON Web Tokens, which are signed. */
export function isGuessable(secret: string | undefined): boolean {
  if (secret === undefined || secret === '') return false
  return !/^fb_[\w-]{43}$/.test(secret) && !/^[\w-]+\.[\w-]+\.[\w-]+$/.test(secret)
}

function windowOf(text: string): Window {
  const [failures = 1, seconds = 1] = text.split(':').map(Number)
  return { failures, perMs: failures / (seconds * 1000) }
}

function forgetOldest(accounts: Map<string, Account>): void {
  for (const key of accounts.keys()) {
    accounts.delete(key)
    return
  }
}

/** A long name is kept as its hash: 64 KiB of somebody's choice, twenty thousand times, would fill the process. */
function keyOfName(name: string): string {
  return name.length <= longestNameKept ? name : hash('sha256', name)
}
