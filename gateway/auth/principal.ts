/** Who is speaking, as its credential says. A payload can never claim more than this. */
export interface Principal {
  readonly tenant: string
  /** The credential's own device; a fleet credential is a device too. */
  readonly device: string
  /** A fleet credential speaks for many devices and creates unknown ones on first sight. */
  readonly fleet: boolean
  /** An operator credential only subscribes, and sees all of its tenant. */
  readonly operator: boolean
  readonly credentialId: string
  /** Date.now() at which it ends by itself; Infinity for one that does not. */
  readonly expiresAtMs: number
  /** Whether it may speak for this device: itself, or for a fleet credential whatever its pattern covers. */
  allows(device: string): boolean
}
