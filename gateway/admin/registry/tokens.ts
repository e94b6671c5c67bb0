import { createHash, randomBytes } from 'node:crypto'

/** `fb_` and 256 random bits: for scanners that look for secrets, `fb_[A-Za-z0-9_-]{43}`. */
export function newToken(): string {
  return `fb_${randomBytes(32).toString('base64url')}`
}

/** One for the admin API, of another look, so that nobody takes it for a device's. */
export function newAdminToken(): string {
  return `fba_${randomBytes(32).toString('base64url')}`
}

/** What is stored of a token. A single SHA-256 is enough: nobody guesses 256 random bits. */
export function hashOf(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}
