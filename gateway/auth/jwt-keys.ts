import { createPublicKey, hash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { type CryptoKey, importJWK, type JWK } from 'jose'

/** One key of a keys file. It is the same object as long as the file holds it, so a principal can ask whether its key is still trusted. */
export interface JwtKey {
  readonly identity: string
  /** Its name in a JWK set; undefined: it is tried for every token. */
  readonly kid: string | undefined
  /** By `alg`: each key serves the algorithms of its own type only, so that no public key can pass for an HMAC secret. */
  readonly byAlgorithm: ReadonlyMap<string, CryptoKey | Uint8Array>
  trusted: boolean
}

/** As the file says it: nothing is sure about its members. */
type Unchecked = Readonly<Record<string, unknown>>

const maxFileBytes = 1_048_576
const maxKeys = 100
/** RFC 7518 §3.2: a key of the size of the hash output or larger must be used. */
const minSecretBytes = 32

/**
 * Reads a JWK set, a single JWK, or a PEM public key.
 * @param before keys that were read earlier; those that are still there stay the same objects
 * @throws Error that says what is wrong with the file
 */
export async function readJwtKeys(
  file: string,
  algorithms: readonly string[],
  before: readonly JwtKey[] = [],
): Promise<JwtKey[]> {
  const text = await readFile(file, 'utf8')
  if (text.length > maxFileBytes) throw new Error(`${file} has more than ${maxFileBytes} bytes`)
  const jwks = text.includes('-----BEGIN ') ? [jwkOfPem(file, text)] : jwksOf(file, text)
  if (jwks.length > maxKeys) throw new Error(`${file} has more than ${maxKeys} keys`)
  const keys: JwtKey[] = []
  for (const jwk of jwks) {
    const key = await importKey(file, jwk, algorithms)
    if (key === undefined) continue // a set may hold keys for other uses
    keys.push(before.find(({ identity }) => identity === key.identity) ?? key)
  }
  if (keys.length === 0) throw new Error(`${file} has no key for ${algorithms.join(', ')}`)
  return keys
}

function jwkOfPem(file: string, pem: string): Unchecked {
  if (pem.includes('PRIVATE KEY-----'))
    throw new Error(`${file} holds a private key. Give the gateway the public one: openssl pkey -in KEY -pubout`)
  return createPublicKey(pem).export({ format: 'jwk' }) as Unchecked
}

function jwksOf(file: string, text: string): Unchecked[] {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    // Without the parser's message, which quotes the text: it may be a secret.
    throw new Error(`${file} is neither PEM nor JSON`)
  }
  const keys = isObject(parsed) && 'keys' in parsed ? parsed.keys : [parsed]
  if (!Array.isArray(keys) || !keys.every(isObject)) throw new Error(`${file} is no JWK set (RFC 7517 §5)`)
  return keys
}

async function importKey(file: string, jwk: Unchecked, algorithms: readonly string[]): Promise<JwtKey | undefined> {
  if (jwk.kty !== 'oct' && jwk.d !== undefined)
    throw new Error(`${file} holds a private key ("d"). Give the gateway the public part only`)
  if (jwk.use !== undefined && jwk.use !== 'sig') return
  if (jwk.key_ops !== undefined && !(Array.isArray(jwk.key_ops) && jwk.key_ops.includes('verify'))) return
  const byAlgorithm = new Map<string, CryptoKey | Uint8Array>()
  for (const algorithm of algorithms) {
    if (!fits(algorithm, jwk)) continue
    if (algorithm === 'HS256') byAlgorithm.set(algorithm, secretOf(file, jwk))
    else byAlgorithm.set(algorithm, await importJWK(publicPart(jwk), algorithm))
  }
  if (byAlgorithm.size === 0) return
  const kid = typeof jwk.kid === 'string' ? jwk.kid : undefined
  const { kty, crv, n, e, x, y, k } = jwk
  const identity = hash('sha256', JSON.stringify([kid, kty, crv, n, e, x, y, k, [...byAlgorithm.keys()]]))
  return { identity, kid, byAlgorithm, trusted: true }
}

/** RFC 7518 §3.1 and RFC 8037 §3.1: the key type that an algorithm needs. */
function fits(algorithm: string, { kty, crv, alg }: Unchecked): boolean {
  if (alg !== undefined && alg !== algorithm && !(alg === 'Ed25519' && algorithm === 'EdDSA')) return false
  switch (algorithm) {
    case 'HS256':
      return kty === 'oct'
    case 'RS256':
    case 'PS256':
      return kty === 'RSA'
    case 'ES256':
      return kty === 'EC' && crv === 'P-256'
    case 'ES384':
      return kty === 'EC' && crv === 'P-384'
    case 'EdDSA':
      return kty === 'OKP' && crv === 'Ed25519'
    default:
      return false
  }
}

function secretOf(file: string, { k }: Unchecked): Uint8Array {
  const secret = Buffer.from(String(k ?? ''), 'base64url')
  if (secret.length < minSecretBytes)
    throw new Error(`${file} has a secret of ${secret.length} bytes; HS256 needs ${minSecretBytes} (RFC 7518 §3.2)`)
  return secret
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Without `alg`, `ext` and the like, so that the algorithm is the configured one. */
function publicPart(jwk: Unchecked): JWK {
  return Object.fromEntries(
    ['kty', 'crv', 'n', 'e', 'x', 'y'].flatMap((name) => (name in jwk ? [[name, jwk[name]]] : [])),
  )
}
