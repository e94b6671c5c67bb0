import { hash } from 'node:crypto'
import { Credential, PasswordCredential } from './credential.ts'
import type { FirstSight } from './first-sight.ts'
import { DeviceDirectory, type KnownDevice } from './known-device.ts'
import type { CredentialRow, DeviceRow, RegistrySink } from './registry-feed.ts'

/** Everything that the feed has read, in the form in which it is asked for. Knows nothing of Postgres. */
export class KnownCredentials implements RegistrySink {
  readonly devices = new DeviceDirectory()
  readonly #firstSight: FirstSight
  readonly #onChange: () => void
  /** By the SHA-256 of the token, as 32 Latin-1 characters: half of what hexadecimal digits take. */
  readonly #tokens = new Map<string, Credential>()
  /**
   * By the SHA-256 of the certificate. A map of its own: certificates are public, and who shows one's bytes as a token must not be let in.
   */
  readonly #certificates = new Map<string, Credential>()
  #passwords = 0
  #generation = 0
  #changed = false

  /** @param onChange after a read that changed what `isLive` may say */
  constructor(firstSight: FirstSight, onChange: () => void) {
    this.#firstSight = firstSight
    this.#onChange = onChange
  }

  get size(): number {
    return this.#tokens.size + this.#certificates.size + this.#passwords
  }

  get hasPasswords(): boolean {
    return this.#passwords > 0
  }

  /** Found by a hash, so the time that takes says nothing about the tokens that exist. */
  byToken(token: string): Credential | undefined {
    return this.#tokens.get(hash('sha256', token, 'binary'))
  }

  /** @param fingerprint SHA-256 of the DER form, base64 */
  byCertificate(fingerprint: string): Credential | undefined {
    return this.#certificates.get(Buffer.from(fingerprint, 'base64').toString('latin1'))
  }

  begin(full: boolean): void {
    if (full) this.#generation++
  }

  onDevices(rows: readonly DeviceRow[]): void {
    for (const row of rows) {
      const device = this.devices.findOrAdd(row.tenant, row.device, 'disabled')
      const bringer = row.bringer === null ? undefined : this.devices.findOrAdd(row.tenant, row.bringer, 'disabled')
      if (device.status === 'new' || device.bringer !== bringer) this.#firstSight.seen(device, bringer)
      const status = row.enabled ? 'enabled' : 'disabled'
      if (device.status !== status) this.#changed = true
      device.status = status
      device.type = row.type
      this.devices.setAliases(device, row.aliases ?? undefined)
      device.generation = this.#generation
    }
  }

  onCredentials(rows: readonly CredentialRow[]): void {
    for (const row of rows) {
      // Its device's row was read before, in the same snapshot.
      const owner = this.devices.findOrAdd(row.tenant, row.device, 'disabled')
      if (row.passwordHash !== null) this.#takePassword(owner, { ...row, passwordHash: row.passwordHash })
      else if (row.secretHash !== null)
        this.#take(row.kind === 'certificate' ? this.#certificates : this.#tokens, row.secretHash, owner, row)
    }
  }

  end(full: boolean): void {
    if (full) this.#sweep()
    if (!this.#changed) return
    this.#changed = false
    this.#onChange()
  }

  #take(map: Map<string, Credential>, secretHash: Buffer, owner: KnownDevice, row: CredentialRow): void {
    const key = secretHash.toString('latin1')
    let known = map.get(key)
    if (known?.isSameAs(row.credentialId, owner, row) === true) {
      if (known.setTerms(row)) this.#changed = true
    } else {
      this.#end(known)
      known = new Credential(row.credentialId, owner, row)
      map.set(key, known)
    }
    known.generation = this.#generation
  }

  #takePassword(owner: KnownDevice, row: CredentialRow & { passwordHash: string }): void {
    const others = owner.passwords ?? []
    let known = others.find(({ credentialId }) => credentialId === row.credentialId)
    if (known?.passwordHash === row.passwordHash && known.isSameAs(row.credentialId, owner, row)) {
      if (known.setTerms(row)) this.#changed = true
    } else {
      this.#end(known)
      if (known === undefined) this.#passwords++
      known = new PasswordCredential(row.credentialId, owner, row)
      owner.passwords = [known, ...others.filter(({ credentialId }) => credentialId !== row.credentialId)].sort(
        (a, b) => b.createdMs - a.createdMs,
      )
    }
    known.generation = this.#generation
  }

  /** After a full read: what it did not bring has no row any more. */
  #sweep(): void {
    for (const map of [this.#tokens, this.#certificates])
      for (const [key, credential] of map)
        if (credential.generation !== this.#generation) {
          map.delete(key)
          this.#end(credential)
        }
    for (const device of this.devices) {
      if (device.passwords !== undefined) this.#sweepPasswords(device)
      // A newcomer's row is still on its way through the event log.
      if (device.generation === this.#generation || device.status === 'new') continue
      this.#firstSight.gone(device)
      device.status = 'disabled' // for the principals that hold it
      this.devices.remove(device)
      this.#changed = true
    }
  }

  #sweepPasswords(device: KnownDevice): void {
    const passwords = device.passwords ?? []
    const left = passwords.filter(({ generation }) => generation === this.#generation)
    if (left.length === passwords.length) return
    for (const password of passwords) if (password.generation !== this.#generation) this.#end(password)
    this.#passwords -= passwords.length - left.length
    device.passwords = left.length === 0 ? undefined : left
  }

  #end(credential: Credential | undefined): void {
    if (credential === undefined) return
    credential.end()
    this.#changed = true
  }
}
