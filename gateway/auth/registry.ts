import { hash } from 'node:crypto'
import { type Handle, handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'
import type { Metrics } from '#platform/metrics.ts'
import type { Authenticator } from './authenticator.ts'
import { fitsPattern } from './device-pattern.ts'
import type { Principal } from './principal.ts'
import { type CredentialRow, type DeviceRow, startRegistryFeed } from './registry-feed.ts'

export interface Registry extends Authenticator, Handle {
  /** False until credentials were read for the first time: until then nobody is let in, and nobody is called unknown. */
  loaded(): boolean
  /** Resolves after the next successful read, for those who have just written to the tables. */
  refreshed(): Promise<void>
}

interface Credential {
  readonly principal: Principal
  /** Names the user name may have: the device, and the device with its tenant. */
  readonly usernames: readonly [string, string]
  readonly usableUntilMs: number
}

/**
 * All live credentials and device names in memory, kept fresh by the feed. Authenticating never waits, and nothing here forgets what it
 * knew when Postgres goes away.
 * @param firstSightDevices how many unknown devices one fleet credential may bring in while this process lives
 */
export async function startRegistry(
  databaseUrl: string,
  firstSightDevices: number,
  { log, metrics }: { log: Log; metrics: Metrics },
): Promise<Registry> {
  const credentials = new Map<string, Credential>()
  /** `tenant/device` → whether it may be written. */
  const devices = new Map<string, boolean>()
  const newcomers = new Map<string, number>()
  const feed = await startRegistryFeed(databaseUrl, { onCredentials, onDevices }, log)
  metrics.gauge('fleetbridge_credentials', 'Credentials held in memory', () => credentials.size)

  function onCredentials(rows: readonly CredentialRow[]): void {
    for (const row of rows)
      credentials.set(row.secretHash, {
        principal: new CredentialPrincipal(row),
        usernames: [row.device, `${row.device}@${row.tenant}`],
        usableUntilMs: row.usable ? (row.expiresAtMs ?? Number.POSITIVE_INFINITY) : 0,
      })
  }

  function onDevices(rows: readonly DeviceRow[]): void {
    for (const { tenant, device, enabled } of rows) devices.set(`${tenant}/${device}`, enabled)
  }

  return {
    ...handleOf(() => feed.close()),
    loaded: () => feed.loaded(),
    refreshed: () => feed.refreshed(),
    isLive({ expiresAtMs }) {
      return expiresAtMs > Date.now()
    },
    onChange() {
      return () => {}
    },
    authenticate({ secret: token, username }) {
      if (!feed.loaded()) return 'unavailable'
      if (token === undefined || token === '') return 'unknown'
      // Looked up by its hash, so the time that takes says nothing about the tokens that exist.
      const credential = credentials.get(hash('sha256', token, 'base64'))
      if (credential === undefined) return 'unknown'
      if (username !== undefined && username !== credential.usernames[0] && username !== credential.usernames[1])
        return 'unknown'
      return credential.usableUntilMs > Date.now() ? credential.principal : 'disabled'
    },
    admitDevice({ tenant, credentialId }, device) {
      const name = `${tenant}/${device}`
      const enabled = devices.get(name)
      if (enabled !== undefined) return enabled ? 'admitted' : 'disabled'
      const count = newcomers.get(credentialId) ?? 0
      if (count >= firstSightDevices) return 'too_many_devices'
      newcomers.set(credentialId, count + 1)
      devices.set(name, true)
      return 'admitted'
    },
  }
}

class CredentialPrincipal implements Principal {
  readonly tenant: string
  readonly device: string
  readonly fleet: boolean
  readonly operator = false
  readonly credentialId: string
  readonly expiresAtMs: number
  readonly #pattern: string | null

  constructor({ tenant, device, fleet, credentialId, pattern, expiresAtMs }: CredentialRow) {
    this.tenant = tenant
    this.device = device
    this.fleet = fleet
    this.credentialId = credentialId
    this.expiresAtMs = expiresAtMs ?? Number.POSITIVE_INFINITY
    this.#pattern = pattern
  }

  allows(device: string): boolean {
    return device === this.device || (this.fleet && fitsPattern(this.#pattern, device))
  }
}
