import type { TenantAliases } from './authenticator.ts'
import type { PasswordCredential } from './credential.ts'

/** `new`: a fleet credential brought it, and its row has not been seen yet; `disabled`: disabled, removed, or its row is gone. */
export type DeviceStatus = 'new' | 'enabled' | 'disabled'

export interface Tenant {
  readonly name: string
  readonly devices: Map<string, KnownDevice>
  /** Devices by their other names; undefined while there are none, so that nobody looks. */
  aliases: KnownAliases | undefined
}

/** The other names of one tenant's devices. */
export class KnownAliases implements TenantAliases {
  readonly #devices = new Map<string, KnownDevice>()

  get isEmpty(): boolean {
    return this.#devices.size === 0
  }

  deviceOf(name: string): string | undefined {
    return this.#devices.get(name)?.name
  }

  give(alias: string, device: KnownDevice): void {
    this.#devices.set(alias, device)
  }

  /** Unless it has gone to another device, whose row was read first. */
  take(alias: string, device: KnownDevice): void {
    if (this.#devices.get(alias) === device) this.#devices.delete(alias)
  }
}

/** What is kept of every device. There may be a million: fields are few, and strings are shared. */
export class KnownDevice {
  readonly tenant: Tenant
  readonly name: string
  status: DeviceStatus
  /** Names its rules in `DeviceTypes`. */
  type: string | null = null
  /** Its other names. */
  aliases: readonly string[] | undefined = undefined
  /** Newest first. */
  passwords: PasswordCredential[] | undefined = undefined
  /** The fleet device that brought it on first sight. */
  bringer: KnownDevice | undefined = undefined
  /** The full read that saw it last. */
  generation = 0

  constructor(tenant: Tenant, name: string, status: DeviceStatus) {
    this.tenant = tenant
    this.name = name
    this.status = status
  }

  /** Whether a user name fits: the device, or the device with its tenant. Compared, never split: ids may hold `@`. */
  isNamed(username: string | undefined): boolean {
    if (username === undefined || username === this.name) return true
    const { length } = this.name
    return (
      username.length === length + 1 + this.tenant.name.length &&
      username.charCodeAt(length) === at &&
      username.startsWith(this.name) &&
      username.endsWith(this.tenant.name)
    )
  }
}

const at = 0x40

/** All devices by tenant and name. Maps, since names are input. */
export class DeviceDirectory {
  readonly #tenants = new Map<string, Tenant>()

  find(tenant: string, device: string): KnownDevice | undefined {
    return this.#tenants.get(tenant)?.devices.get(device)
  }

  /** The device of this name, made with this status when it is not there. */
  findOrAdd(tenantName: string, name: string, status: DeviceStatus): KnownDevice {
    let tenant = this.#tenants.get(tenantName)
    if (tenant === undefined) {
      tenant = { name: tenantName, devices: new Map(), aliases: undefined }
      this.#tenants.set(tenantName, tenant)
    }
    let device = tenant.devices.get(name)
    if (device === undefined) {
      device = new KnownDevice(tenant, name, status)
      tenant.devices.set(name, device)
    }
    return device
  }

  remove(device: KnownDevice): void {
    this.setAliases(device, undefined)
    device.tenant.devices.delete(device.name)
  }

  /** Undefined for a tenant whose devices have none. */
  aliasesOf(tenant: string): TenantAliases | undefined {
    return this.#tenants.get(tenant)?.aliases
  }

  /** @param aliases all that the device has now */
  setAliases(device: KnownDevice, aliases: readonly string[] | undefined): void {
    const { tenant, aliases: before } = device
    if (before === undefined && aliases === undefined) return
    for (const alias of before ?? []) tenant.aliases?.take(alias, device)
    if (aliases !== undefined) {
      tenant.aliases ??= new KnownAliases()
      for (const alias of aliases) tenant.aliases.give(alias, device)
    } else if (tenant.aliases?.isEmpty === true) tenant.aliases = undefined
    device.aliases = aliases
  }

  *[Symbol.iterator](): Generator<KnownDevice> {
    for (const { devices } of this.#tenants.values()) yield* devices.values()
  }
}
