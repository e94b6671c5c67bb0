import { createHash, randomUUID } from 'node:crypto'
import { FirstSight } from './first-sight.ts'
import { KnownCredentials } from './known-credentials.ts'
import type { CredentialRow, DeviceRow } from './registry-feed.ts'

export function credentialRow(device: string, more: Partial<CredentialRow> = {}): CredentialRow {
  return {
    credentialId: randomUUID(),
    kind: 'token',
    secretHash: null,
    passwordHash: null,
    tenant: 'default',
    device,
    fleet: false,
    operator: false,
    pattern: null,
    createdMs: Date.now(),
    expiresAtMs: null,
    revoked: false,
    ...more,
  }
}

export function deviceRow(device: string, more: Partial<DeviceRow> = {}): DeviceRow {
  return { tenant: 'default', device, enabled: true, bringer: null, aliases: null, type: null, ...more }
}

export function sha256(text: string | Buffer): Buffer {
  return createHash('sha256').update(text).digest()
}

/** What a gateway knows, fed by hand. */
export function knownOf(limits = { firstSightDevices: 3, firstSightPerMinute: 60 }) {
  const changes = { count: 0 }
  const firstSight = new FirstSight(limits)
  const known = new KnownCredentials(firstSight, () => changes.count++)
  function feed(full: boolean, devices: readonly DeviceRow[], credentials: readonly CredentialRow[] = []) {
    known.begin(full)
    known.onDevices(devices)
    known.onCredentials(credentials)
    known.end(full)
  }
  return { known, firstSight, changes, feed }
}
