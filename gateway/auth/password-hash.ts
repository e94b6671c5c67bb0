import { randomBytes, type ScryptOptions, scrypt, timingSafeEqual } from 'node:crypto'

/** Longest chosen password in bytes; a longer secret is never hashed. */
export const maxPasswordBytes = 1024

/** scrypt with 32 MiB and about 0.1 s of one core: what OWASP asks of N = 2^15, r = 8 is p = 3; devices reconnect more often than people log in. */
const defaults = { ln: 15, r: 8, p: 1 }
const hashBytes = 32
/** A stored hash may ask for other costs, since it may be imported; but not for more than this. */
const maxMemoryBytes = 64 * 1024 * 1024
const maxWork = 4

const phc = /^\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})$/

/**
 * Hashes a chosen password for `credential.password_hash`, off the event loop.
 * @returns `$scrypt$ln=15,r=8,p=1$salt$hash`, the form of the PHC string format
 * @throws RangeError when it has no bytes, or more than `maxPasswordBytes`
 */
export async function hashPassword(text: string): Promise<string> {
  const bytes = Buffer.byteLength(text)
  if (bytes < 1 || bytes > maxPasswordBytes)
    throw new RangeError(`a password has 1 to ${maxPasswordBytes} bytes, and this one has ${bytes}`)
  const { ln, r, p } = defaults
  const salt = randomBytes(16)
  const derived = await derive(text, salt, hashBytes, { N: 2 ** ln, r, p })
  return `$scrypt$ln=${ln},r=${r},p=${p}$${unpadded(salt)}$${unpadded(derived)}`
}

/** Whether this is the password that was hashed; false too for a hash that is none or asks for too much. Off the event loop. */
export async function verifyPassword(text: string, stored: string): Promise<boolean> {
  if (Buffer.byteLength(text) > maxPasswordBytes) return false
  const parsed = parse(stored)
  if (parsed === undefined) return false
  const derived = await derive(text, parsed.salt, parsed.hash.length, parsed.costs)
  return timingSafeEqual(derived, parsed.hash)
}

/** Whether `verifyPassword` can work with it: for those who import hashes. */
export function isPasswordHash(stored: string): boolean {
  return parse(stored) !== undefined
}

function parse(stored: string): { costs: ScryptOptions; salt: Buffer; hash: Buffer } | undefined {
  const [, ln, r, p, salt, hash] = phc.exec(stored) ?? []
  if (ln === undefined || r === undefined || p === undefined || salt === undefined || hash === undefined) return
  const costs = { N: 2 ** Number(ln), r: Number(r), p: Number(p) }
  const memoryBytes = 128 * costs.N * costs.r
  if (costs.N < 2 || costs.r < 1 || costs.p < 1 || memoryBytes > maxMemoryBytes || costs.p > maxWork) return
  return { costs, salt: Buffer.from(salt, 'base64'), hash: Buffer.from(hash, 'base64') }
}

function derive(text: string, salt: Buffer, bytes: number, costs: ScryptOptions): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    // maxmem counts more than the 128·N·r of the large array.
    scrypt(text, salt, bytes, { ...costs, maxmem: 2 * maxMemoryBytes }, (error, derived) =>
      error === null ? resolve(derived) : reject(error),
    )
  })
}

/** The PHC string format leaves base64's padding out. */
function unpadded(bytes: Buffer): string {
  return bytes.toString('base64').replaceAll('=', '')
}
