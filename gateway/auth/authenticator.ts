import type { Principal } from './principal.ts'

/**
 * `unknown`: wrong or no credentials; `disabled`: known, but disabled, revoked or expired; `unavailable`: credentials were never loaded, or so
 * many passwords wait to be verified that one more would wait too long.
 */
export type AuthRefusal = 'unknown' | 'disabled' | 'unavailable'

/** What a connection or request shows to say who it is. */
export interface Presented {
  /** MQTT user name or HTTP Basic user. With a token it must be `device` or `device@tenant` of that token; with a password it names the device. */
  readonly username?: string | undefined
  /** A token, a JWT or a chosen password, as presented. */
  readonly secret?: string | undefined
  /** Only what the TLS handshake has verified against one of our CAs. Looked at when no secret is presented. */
  readonly certificate?: ClientCertificate | undefined
}

/** A verified client certificate. */
export interface ClientCertificate {
  /** SHA-256 of its DER form, base64, as the registry keeps it. */
  readonly fingerprint: string
  /** SHA-256 of the DER form of the CA that issued it, base64. */
  readonly issuerFingerprint: string
  readonly commonName: string | undefined
  /** Subject alternative names: DNS names and URIs, without their type. */
  readonly alternativeNames: readonly string[]
  /** Date.now() at which it ends. */
  readonly expiresAtMs: number
}

/** Answers from memory: a CONNECT or request never waits for Postgres, and its outage locks nobody out. */
export interface Authenticator {
  /** At once for tokens and certificates; a promise only where a password or a JWT has to be verified off the event loop. Never rejects. */
  authenticate(presented: Presented): Principal | AuthRefusal | Promise<Principal | AuthRefusal>
  /** Whether a principal that was let in earlier may stay: its credential is neither revoked nor expired, its device enabled. */
  isLive(principal: Principal): boolean
  /** Calls after every change of what `isLive` may say, in groups; expiry alone makes no call. @returns ends the calls */
  onChange(listener: () => void): () => void
  /**
   * Whether a device may be written under this credential: known and enabled, or new within the credential's first-sight cap
   * (and then remembered as admitted). Asked for fleet credentials only.
   */
  admitDevice(principal: Principal, device: string): 'admitted' | 'disabled' | 'too_many_devices'
}

/** Other names of devices: a Tasmota topic, a devEui, `GROUP/NODE`. Unique in their tenant, and none of them is an id. */
export interface Aliases {
  /** Undefined for a tenant that has none, so that its messages cost nothing. */
  of(tenant: string): TenantAliases | undefined
}

export interface TenantAliases {
  /** The id of the device that a name stands for; undefined when it is no alias. */
  deviceOf(name: string): string | undefined
}
