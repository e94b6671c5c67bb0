/** Who is speaking, as its credential says. A payload can never claim more than this. */
export interface Principal {
  readonly tenant: string
  /** The credential's own device; a fleet credential is a device too. */
  readonly device: string
  /** A fleet credential speaks for many devices and creates unknown ones on first sight. */
  readonly fleet: boolean
  readonly credentialId: string
  /** Whether it may speak for this device: itself, or for a fleet credential whatever its pattern covers. */
  allows(device: string): boolean
}
