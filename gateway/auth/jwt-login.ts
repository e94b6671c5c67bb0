import { hash } from 'node:crypto'
import { errors, jwtVerify } from 'jose'
import type { Config } from '#platform/config-schema.ts'
import { BridgeError } from '#platform/errors.ts'
import { type Handle, handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'
import { watchFiles } from '#platform/watched-files.ts'
import type { AuthRefusal } from './authenticator.ts'
import { KnownPrincipal } from './credential.ts'
import { type JwtKey, readJwtKeys } from './jwt-keys.ts'
import type { DeviceDirectory, KnownDevice } from './known-device.ts'

type Answer = JwtPrincipal | AuthRefusal
type IssuerConfig = Config['auth']['jwt'][number]

interface Issuer extends IssuerConfig {
  keys: readonly JwtKey[]
}

/** What a token says about itself, before anything is verified. */
interface Unverified {
  readonly header: Readonly<Record<string, unknown>>
  readonly claims: Readonly<Record<string, unknown>>
}

export const maxJwtBytes = 8192
const maxCached = 10_000
const maxInHand = 500
const maxKeysTried = 4
/** For `nbf` and `iat` alone: `exp` is the very moment, or a session would be let in and ended at once. */
const clockToleranceSeconds = 30

/** RFC 7515 §4.1: keys that a token brings along are not looked at, nor does it say what must be understood; both are refused. */
const refusedHeaders = ['crit', 'jwk', 'jku', 'x5c', 'x5u', 'b64', 'zip', 'enc'] as const

export interface JwtLogin extends Handle {
  /**
   * At once when this very token was verified before.
   * @returns undefined for a text that has not the form of a JWT
   */
  check(text: string, username: string | undefined): Answer | Promise<Answer> | undefined
  /** Looks at the keys files now. */
  checkFiles(): Promise<void>
}

/**
 * JSON Web Tokens of the configured issuers. Everything that decides how to verify comes from the configuration; the token only looks a key up.
 * @param onChange after keys went, and with them those whom they had let in
 * @throws BridgeError BRIDGE_CONFIG_INVALID when a keys file cannot be used
 */
export async function startJwtLogin(
  config: Config['auth']['jwt'],
  devices: DeviceDirectory,
  { log, onChange }: { log: Log; onChange: () => void },
): Promise<JwtLogin> {
  const issuers: Issuer[] = []
  for (const [index, issuer] of config.entries()) issuers.push({ ...issuer, keys: await firstKeys(issuer, index) })
  const watched = await Promise.all(
    issuers.map((issuer) => watchFiles([issuer.keysFile], () => reload(issuer), { log })),
  )
  /** By SHA-256 of the token; oldest first. Ends with the token, its key or its device. */
  const verified = new Map<string, JwtPrincipal>()
  let inHand = 0

  async function reload(issuer: Issuer): Promise<void> {
    const keys = await readJwtKeys(issuer.keysFile, issuer.algorithms as string[], issuer.keys)
    for (const key of issuer.keys) key.trusted = keys.includes(key)
    issuer.keys = keys
    onChange()
  }

  async function verify(text: string, { header, claims }: Unverified, username: string | undefined): Promise<Answer> {
    for (const issuer of issuersOf(claims, header.alg))
      for (const key of keysOf(issuer, header)) {
        const answer = await verifyWith(text, issuer, key, header.alg as string)
        if (answer === undefined) continue // another key may have signed it
        if (typeof answer === 'string') return answer
        if (!answer.owner.isNamed(username)) return 'unknown'
        if (!answer.isLive(Date.now())) return 'disabled'
        remember(text, answer)
        return answer
      }
    return 'unknown'
  }

  function issuersOf({ iss, aud }: Unverified['claims'], alg: unknown): readonly Issuer[] {
    const audiences = Array.isArray(aud) ? aud : [aud]
    return issuers.filter(
      ({ issuer, audience, algorithms }) =>
        issuer === iss && audiences.includes(audience) && (algorithms as unknown[]).includes(alg),
    )
  }

  async function verifyWith(text: string, issuer: Issuer, key: JwtKey, alg: string): Promise<Answer | undefined> {
    try {
      const { payload } = await jwtVerify(text, key.byAlgorithm.get(alg) as Uint8Array, {
        issuer: issuer.issuer,
        audience: issuer.audience,
        algorithms: [alg],
        requiredClaims: ['exp'],
        clockTolerance: clockToleranceSeconds,
      })
      const name = issuer.deviceClaim ?? 'sub'
      const claim = Object.hasOwn(payload, name) ? payload[name] : undefined
      const owner = typeof claim === 'string' ? devices.find(issuer.tenant, claim) : undefined
      if (owner === undefined || owner.status === 'new') return 'unknown'
      return new JwtPrincipal(owner, key, (payload.exp as number) * 1000)
    } catch (error) {
      if (error instanceof errors.JWSSignatureVerificationFailed) return undefined
      return error instanceof errors.JWTExpired ? 'disabled' : 'unknown'
    }
  }

  function remember(text: string, principal: JwtPrincipal): void {
    if (verified.size >= maxCached) verified.delete(verified.keys().next().value as string)
    verified.set(hash('sha256', text, 'binary'), principal)
  }

  function recall(text: string): JwtPrincipal | undefined {
    if (verified.size === 0) return undefined
    const key = hash('sha256', text, 'binary')
    const before = verified.get(key)
    if (before === undefined || before.isLive(Date.now())) return before
    verified.delete(key)
    return undefined
  }

  return {
    ...handleOf(async () => {
      for (const files of watched) files.close()
    }),
    check(text, username) {
      const before = recall(text)
      if (before !== undefined) return before.owner.isNamed(username) ? before : 'unknown'
      const unverified = unverifiedOf(text)
      if (unverified === undefined) return undefined
      const { header, claims } = unverified
      if (refusedHeaders.some((name) => Object.hasOwn(header, name))) return 'unknown'
      if (issuersOf(claims, header.alg).length === 0) return 'unknown'
      if (inHand >= maxInHand) return 'unavailable'
      inHand++
      return verify(text, unverified, username).finally(() => inHand--)
    },
    async checkFiles() {
      await Promise.all(watched.map((files) => files.check()))
    },
  }
}

/** Lives as long as its token, its device and its key do. */
class JwtPrincipal extends KnownPrincipal {
  readonly owner: KnownDevice
  readonly expiresAtMs: number
  readonly #key: JwtKey

  constructor(owner: KnownDevice, key: JwtKey, expiresAtMs: number) {
    super()
    this.owner = owner
    this.#key = key
    this.expiresAtMs = expiresAtMs
  }

  get credentialId(): string {
    return `jwt:${this.tenant}/${this.device}`
  }

  protected get stands(): boolean {
    return this.#key.trusted
  }
}

async function firstKeys(issuer: IssuerConfig, index: number): Promise<JwtKey[]> {
  try {
    return await readJwtKeys(issuer.keysFile, issuer.algorithms as string[])
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new BridgeError('BRIDGE_CONFIG_INVALID', `auth.jwt[${index}].keysFile cannot be used: ${reason}`, { cause })
  }
}

/** A `kid` picks among the keys that have one; a key without, as a PEM file has, is tried for every token. */
function keysOf({ keys }: Issuer, { alg, kid }: Unverified['header']): readonly JwtKey[] {
  const able = keys.filter(({ byAlgorithm }) => byAlgorithm.has(alg as string))
  const named = kid === undefined ? able : able.filter((key) => key.kid === undefined || key.kid === kid)
  return named.slice(0, maxKeysTried)
}

/** Three parts of base64url, the first two JSON objects (RFC 7519 §7.2). The last may be empty, as that of an unsigned token. */
function unverifiedOf(text: string): Unverified | undefined {
  if (text.length > maxJwtBytes || !/^[\w-]+\.[\w-]+\.[\w-]*$/.test(text)) return undefined
  const [first, second] = text.split('.')
  const header = objectOf(first as string)
  const claims = objectOf(second as string)
  return header === undefined || claims === undefined || typeof header.alg !== 'string' ? undefined : { header, claims }
}

function objectOf(part: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, 'base64url').toString('utf8'))
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined
  } catch {
    return undefined
  }
}
