import type { PeerCertificate } from 'node:tls'
import type { Config } from '#platform/config-schema.ts'
import { type Handle, handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'
import type { Metrics } from '#platform/metrics.ts'
import { AuthCounts, type ShownKind } from './auth-counts.ts'
import type { Aliases, Authenticator, AuthRefusal, ClientCertificate, Presented } from './authenticator.ts'
import { CertificateLogin, type CertificatePrincipal } from './certificate-login.ts'
import { startClientAuthorities } from './client-authorities.ts'
import { clientCertificateOf } from './client-certificate.ts'
import { type Credential, KnownPrincipal } from './credential.ts'
import { type DeviceRules, DeviceTypes } from './device-rules.ts'
import { FirstSight } from './first-sight.ts'
import { maxJwtBytes, startJwtLogin } from './jwt-login.ts'
import { KnownCredentials } from './known-credentials.ts'
import { startLastUse } from './last-use.ts'
import { PasswordLogin } from './password-login.ts'
import type { Principal } from './principal.ts'
import { startRegistryFeed } from './registry-feed.ts'

export interface RegistryOptions {
  readonly databaseUrl: string
  readonly auth: Pick<Config['auth'], 'jwt' | 'clientCas'>
  readonly limits: Pick<Config['limits'], 'firstSightDevices' | 'firstSightPerMinute'>
  readonly log: Log
  readonly metrics: Metrics
}

export interface Registry extends Authenticator, Handle {
  /** What holds for a device by its type; undefined where nothing does. Allocates nothing. */
  rulesOf(tenant: string, device: string): DeviceRules | undefined
  /** False until credentials were read for the first time: until then nobody is let in, and nobody is called unknown. */
  loaded(): boolean
  /** Other names of devices, as the registry's tables have them. */
  readonly aliases: Aliases
  /** Resolves after the next successful read, for those who have just written to the tables. */
  refreshed(): Promise<void>
  /** What to present of a client's certificate, `socket.getPeerCertificate()`; only after the handshake said `authorized`. */
  clientCertificateOf(peer: Pick<PeerCertificate, 'raw' | 'subject'>): ClientCertificate | undefined
  /** Looks now whether files of keys and CAs changed, and writes when credentials were used last. Both happen by themselves too. */
  settled(): Promise<void>
}

/** What our tokens look like. A chosen password never does, so a wrong token costs no scrypt. */
const tokenForm = /^fb_[\w-]{43}$/

/**
 * All credentials and device names in memory, kept fresh by the feed. Authenticating never waits for Postgres, and nothing here forgets what
 * it knew when Postgres goes away.
 */
export async function startRegistry({ databaseUrl, auth, limits, log, metrics }: RegistryOptions): Promise<Registry> {
  await using opened = new AsyncDisposableStack() // a failed start closes what it had opened
  const listeners = new Set<() => void>()
  const onChange = () => {
    for (const listener of listeners)
      try {
        listener()
      } catch (error) {
        log.error({ err: error }, 'a listener for changed credentials failed') // the others, and the feed, go on
      }
  }
  const firstSight = new FirstSight(limits)
  const known = new KnownCredentials(firstSight, onChange)
  const deviceTypes = new DeviceTypes()
  const jwt = opened.use(await startJwtLogin(auth.jwt, known.devices, { log, onChange }))
  const authorities = opened.use(await startClientAuthorities(auth.clientCas, { log, onChange }))
  const certificates = new CertificateLogin(known, authorities)
  const passwords = new PasswordLogin(known, log)
  const lastUse = opened.use(startLastUse(databaseUrl, log))
  const feed = opened.use(await startRegistryFeed(databaseUrl, known, deviceTypes, log))
  const counts = new AuthCounts(metrics)
  metrics.gauge('fleetbridge_credentials', 'Credentials held in memory', () => known.size)

  /** Counts an answer, and the use of the row that it came from. */
  function told<P extends Principal>(kind: ShownKind, answer: P | AuthRefusal, row?: Credential): P | AuthRefusal {
    if (typeof answer === 'string') counts.count(kind, answer)
    else {
      counts.count(kind, 'admitted')
      if (row !== undefined) lastUse.note(row, Date.now())
    }
    return answer
  }

  function byToken(credential: Credential, username: string | undefined): Principal | AuthRefusal {
    if (!credential.owner.isNamed(username)) return told('token', 'unknown')
    return told('token', credential.isLive(Date.now()) ? credential : 'disabled', credential)
  }

  function byPassword(username: string, password: string): Principal | AuthRefusal | Promise<Principal | AuthRefusal> {
    const finished = (answer: Awaited<ReturnType<PasswordLogin['check']>>) =>
      told('password', answer, typeof answer === 'string' ? undefined : answer)
    const answer = passwords.check(username, password)
    return answer instanceof Promise ? answer.then(finished) : finished(answer)
  }

  function byCertificate(answer: CertificatePrincipal | AuthRefusal): Principal | AuthRefusal {
    return told('certificate', answer, typeof answer === 'string' ? undefined : answer.pinned)
  }

  function authenticate({
    secret,
    username,
    certificate,
  }: Presented): Principal | AuthRefusal | Promise<Principal | AuthRefusal> {
    const hasSecret = secret !== undefined && secret !== ''
    if (!feed.loaded()) return told('none', 'unavailable')
    if (!hasSecret)
      return certificate === undefined
        ? told('none', 'unknown')
        : byCertificate(certificates.check(certificate, username))
    if (secret.length > maxJwtBytes) return told('token', 'unknown')
    const credential = known.byToken(secret)
    if (credential !== undefined) return byToken(credential, username)
    if (tokenForm.test(secret)) return told('token', 'unknown')
    const answer = jwt.check(secret, username)
    if (answer !== undefined)
      return answer instanceof Promise ? answer.then((late) => told('jwt', late)) : told('jwt', answer)
    return username === undefined || username === '' ? told('token', 'unknown') : byPassword(username, secret)
  }

  const parts = opened.move()
  return {
    ...handleOf(() => parts.disposeAsync()),
    loaded: () => feed.loaded(),
    rulesOf(tenant, device) {
      if (deviceTypes.isEmpty) return undefined
      const type = known.devices.find(tenant, device)?.type
      return type === null || type === undefined ? undefined : deviceTypes.find(tenant, type)
    },
    aliases: { of: (tenant) => known.devices.aliasesOf(tenant) },
    refreshed: () => feed.refreshed(),
    async settled() {
      await Promise.all([jwt.checkFiles(), authorities.checkFiles(), lastUse.write()])
    },
    clientCertificateOf: (peer) => clientCertificateOf(peer, authorities.certificates()),
    authenticate,
    isLive: (principal) => principal instanceof KnownPrincipal && principal.isLive(Date.now()),
    onChange(listener) {
      const own = () => listener() // the same function may listen twice
      listeners.add(own)
      return () => void listeners.delete(own)
    },
    admitDevice({ tenant, device: fleetName }, name) {
      const device = known.devices.find(tenant, name)
      if (device !== undefined) return device.status === 'disabled' ? 'disabled' : 'admitted'
      const fleet = known.devices.find(tenant, fleetName)
      if (fleet === undefined || !firstSight.admit(fleet, Date.now())) return 'too_many_devices'
      known.devices.findOrAdd(tenant, name, 'new').bringer = fleet
      return 'admitted'
    },
  }
}
