import type { AuthRefusal, ClientCertificate } from './authenticator.ts'
import type { ClientAuthorities, ClientAuthority } from './client-authorities.ts'
import { type Credential, KnownPrincipal } from './credential.ts'
import type { KnownCredentials } from './known-credentials.ts'
import type { KnownDevice } from './known-device.ts'

/**
 * Certificates that the handshake has verified. One that is pinned as a row speaks as its row says; else its CA says the tenant and its name
 * the device. A revoked row refuses its certificate whatever the CA.
 */
export class CertificateLogin {
  readonly #known: KnownCredentials
  readonly #authorities: ClientAuthorities

  constructor(known: KnownCredentials, authorities: ClientAuthorities) {
    this.#known = known
    this.#authorities = authorities
  }

  check(certificate: ClientCertificate, username: string | undefined): CertificatePrincipal | AuthRefusal {
    const authority = this.#authorities.find(certificate.issuerFingerprint)
    if (authority === undefined) return 'unknown'
    const pinned = this.#known.byCertificate(certificate.fingerprint)
    const owner = pinned?.owner ?? this.#ownerOf(certificate, authority)
    if (owner === undefined || owner.status === 'new' || !owner.isNamed(username)) return 'unknown'
    const principal = new CertificatePrincipal(owner, certificate, authority, pinned, this.#known)
    return principal.isLive(Date.now()) ? principal : 'disabled'
  }

  #ownerOf(
    { commonName, alternativeNames }: ClientCertificate,
    { tenant, identity }: ClientAuthority,
  ): KnownDevice | undefined {
    const name = identity === 'cn' ? commonName : alternativeNames[0]
    return name === undefined ? undefined : this.#known.devices.find(tenant, name)
  }
}

/** Lives as long as its certificate, its device, its CA and its row (if it has one) do, and until a row revokes its fingerprint. */
export class CertificatePrincipal extends KnownPrincipal {
  readonly owner: KnownDevice
  /** The row whose role it has. */
  readonly pinned: Credential | undefined
  readonly #certificate: ClientCertificate
  readonly #authority: ClientAuthority
  readonly #known: KnownCredentials

  constructor(
    owner: KnownDevice,
    certificate: ClientCertificate,
    authority: ClientAuthority,
    pinned: Credential | undefined,
    known: KnownCredentials,
  ) {
    super()
    this.owner = owner
    this.pinned = pinned
    this.#certificate = certificate
    this.#authority = authority
    this.#known = known
  }

  get credentialId(): string {
    return this.pinned?.credentialId ?? `certificate:${this.#certificate.fingerprint}`
  }

  get expiresAtMs(): number {
    return Math.min(this.#certificate.expiresAtMs, this.pinned?.expiresAtMs ?? Number.POSITIVE_INFINITY)
  }

  override get fleet(): boolean {
    return this.pinned?.fleet ?? false
  }

  override get operator(): boolean {
    return this.pinned?.operator ?? false
  }

  override allows(device: string): boolean {
    return this.pinned?.allows(device) ?? super.allows(device)
  }

  protected get stands(): boolean {
    if (!this.#authority.trusted) return false
    const row = this.pinned ?? this.#known.byCertificate(this.#certificate.fingerprint)
    return row === undefined || row.isLive(Date.now())
  }
}
