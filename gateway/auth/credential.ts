import { fitsPattern } from './device-pattern.ts'
import type { KnownDevice } from './known-device.ts'
import type { Principal } from './principal.ts'

/** A principal that this registry made, so that it can say whether it still stands. */
export abstract class KnownPrincipal implements Principal {
  abstract readonly owner: KnownDevice
  abstract readonly credentialId: string
  abstract readonly expiresAtMs: number
  /** Neither revoked nor gone, whatever its device and its end say. */
  protected abstract readonly stands: boolean

  get tenant(): string {
    return this.owner.tenant.name
  }

  get device(): string {
    return this.owner.name
  }

  get fleet(): boolean {
    return false
  }

  get operator(): boolean {
    return false
  }

  allows(device: string): boolean {
    return device === this.owner.name
  }

  isLive(nowMs: number): boolean {
    return this.stands && this.owner.status === 'enabled' && this.expiresAtMs > nowMs
  }
}

export type Role = 'device' | 'fleet' | 'operator'

/**
 * A row of `credential`, and the principal that it makes: one object for both, since there are 100,000. What the role says never changes:
 * a row with another role is another object, and who was let in by the old one has to come again.
 */
export class Credential extends KnownPrincipal {
  readonly owner: KnownDevice
  readonly credentialId: string
  readonly role: Role
  /** Of a fleet credential: the devices that it speaks for. */
  readonly pattern: string | null
  endsMs: number | null
  protected stands: boolean
  /** The full read that saw it last. */
  generation = 0
  /** Second of this process's life in which its use was noted last. */
  notedSecond = -1000

  constructor(id: string, owner: KnownDevice, row: CredentialTerms) {
    super()
    this.owner = owner
    this.credentialId = id
    this.role = roleOf(row)
    this.pattern = row.pattern
    this.endsMs = row.expiresAtMs
    this.stands = !row.revoked
  }

  get expiresAtMs(): number {
    return this.endsMs ?? Number.POSITIVE_INFINITY
  }

  override get fleet(): boolean {
    return this.role === 'fleet'
  }

  override get operator(): boolean {
    return this.role === 'operator'
  }

  /** An operator only subscribes. */
  override allows(device: string): boolean {
    if (this.role === 'operator') return false
    return device === this.owner.name || (this.role === 'fleet' && fitsPattern(this.pattern, device))
  }

  /** Whether the row still says the same but for its end and revocation, which `setTerms` takes over. */
  isSameAs(id: string, owner: KnownDevice, row: CredentialTerms): boolean {
    return this.credentialId === id && this.owner === owner && this.role === roleOf(row) && this.pattern === row.pattern
  }

  /** @returns whether anything changed */
  setTerms({ revoked, expiresAtMs }: CredentialTerms): boolean {
    if (this.stands === !revoked && this.endsMs === expiresAtMs) return false
    this.stands = !revoked
    this.endsMs = expiresAtMs
    return true
  }

  /** Its row is gone, or says something else now. */
  end(): void {
    this.stands = false
  }
}

export interface CredentialTerms {
  readonly fleet: boolean
  readonly operator: boolean
  readonly pattern: string | null
  readonly expiresAtMs: number | null
  readonly revoked: boolean
}

function roleOf({ fleet, operator }: CredentialTerms): Role {
  return operator ? 'operator' : fleet ? 'fleet' : 'device'
}

/** A chosen password. Its keyed hash is kept once it was right, so that it costs its 0.1 s once a process; it dies with this object. */
export class PasswordCredential extends Credential {
  readonly passwordHash: string
  readonly createdMs: number
  verified: Buffer | undefined = undefined

  constructor(id: string, owner: KnownDevice, row: CredentialTerms & { passwordHash: string; createdMs: number }) {
    super(id, owner, row)
    this.passwordHash = row.passwordHash
    this.createdMs = row.createdMs
  }

  get usable(): boolean {
    return this.stands && this.expiresAtMs > Date.now()
  }
}
