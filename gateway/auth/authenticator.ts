import type { Principal } from './principal.ts'

/** `unknown`: wrong or no credentials; `disabled`: known, but disabled, revoked or expired; `unavailable`: credentials were never loaded. */
export type AuthRefusal = 'unknown' | 'disabled' | 'unavailable'

/** Answers from memory: a CONNECT or request never waits for Postgres, and its outage locks nobody out. */
export interface Authenticator {
  /**
   * @param token the secret as presented; hashed before it is looked up
   * @param username MQTT user name or HTTP Basic user: must be `device` or `device@tenant` of the token when given; undefined when only a token was
   */
  authenticate(token: string | undefined, username?: string): Principal | AuthRefusal
  /**
   * Whether a device may be written under this credential: known and enabled, or new within the credential's first-sight cap
   * (and then remembered as admitted). Asked for fleet credentials only.
   */
  admitDevice(principal: Principal, device: string): 'admitted' | 'disabled' | 'too_many_devices'
}
