import { addressKey } from '#platform/address-key.ts'
import type { Config } from '#platform/config-schema.ts'
import { configuredPolicy } from './rate-limit/limit-policy.ts'
import { windowsOf } from './rate-limit/limits.ts'
import { TokenBuckets } from './rate-limit/token-buckets.ts'

/** Why a connection is closed before anything of it is read. */
export type DoorRefusal = 'too_many_connections' | 'too_many_from_address' | 'connect_rate'

/** Addresses whose rate is remembered; past it the one that was seen least recently starts with a full bucket. */
const maxAddresses = 20_000

/** Counts the connections of all listeners, in all and by address: one address must not use up what all the others share. */
export class Doorkeeper {
  readonly #maxConnections: number
  readonly #maxPerAddress: number
  readonly #rate: TokenBuckets
  /** Open connections by address; an address without any has no entry. */
  readonly #open = new Map<string, number>()
  #count = 0

  constructor({
    maxConnections,
    maxConnectionsPerAddress,
    connectRate,
  }: Pick<Config['mqtt'], 'maxConnections' | 'maxConnectionsPerAddress' | 'connectRate'>) {
    this.#maxConnections = maxConnections
    this.#maxPerAddress = maxConnectionsPerAddress
    const windows = windowsOf(connectRate, 'mqtt.connectRate')
    this.#rate = new TokenBuckets(
      configuredPolicy(
        windows.map((window) => ({ limit: 'device', owner: 'device', quantity: 'messages', ...window })),
      ),
      maxAddresses,
    )
  }

  /** Addresses of which anything is remembered. */
  get size(): number {
    return Math.max(this.#open.size, this.#rate.size)
  }

  /** @returns why the connection may not stay; undefined when it may, and then `leave` has to be called once at its end */
  admit(address: string, nowMs: number): DoorRefusal | undefined {
    const key = addressKey(address)
    const open = this.#open.get(key) ?? 0
    if (this.#count >= this.#maxConnections) return 'too_many_connections'
    if (open >= this.#maxPerAddress) return 'too_many_from_address'
    const cost = { tenant: '', device: key, fleet: undefined, messages: 1, readings: 0, bytes: 0 }
    if (this.#rate.take([cost], nowMs)[0] !== undefined) return 'connect_rate'
    this.#open.set(key, open + 1)
    this.#count++
    return undefined
  }

  leave(address: string): void {
    const key = addressKey(address)
    const open = this.#open.get(key) ?? 0
    if (open > 1) this.#open.set(key, open - 1)
    else this.#open.delete(key)
    this.#count--
  }
}
