import type { Log } from '#platform/log.ts'
import { Contract, type ContractDocument, type ContractMode, faultOfContract } from '../normalize/contract.ts'

/** What holds for all devices of a type. */
export interface DeviceRules {
  readonly identity: 'value' | 'message'
  readonly contractMode: ContractMode
  /** Undefined without one, and where its mode is off. */
  readonly contract: Contract | undefined
}

/** A row of `device_type`. */
export interface DeviceTypeRow {
  readonly tenant: string
  readonly name: string
  readonly identity: 'value' | 'message'
  readonly contractMode: ContractMode
  readonly contract: unknown
}

/** The rules of all types, of all tenants. */
export class DeviceTypes {
  #tenants = new Map<string, Map<string, DeviceRules>>()

  /** Takes over all rows there are. One that somebody has broken by hand holds nobody up: it has no contract, and the log says so. */
  take(rows: readonly DeviceTypeRow[], log: Log): void {
    const tenants = new Map<string, Map<string, DeviceRules>>()
    for (const { tenant, name, identity, contractMode, contract } of rows) {
      let types = tenants.get(tenant)
      if (types === undefined) {
        types = new Map()
        tenants.set(tenant, types)
      }
      const isOn = contractMode !== 'off' && contract !== null
      const fault = isOn ? faultOfContract(contract) : undefined
      if (fault !== undefined)
        log.error({ tenant, deviceType: name, fault }, 'a data contract cannot be read; it is not applied')
      types.set(name, {
        identity,
        contractMode,
        contract: isOn && fault === undefined ? new Contract(contract as ContractDocument) : undefined,
      })
    }
    this.#tenants = tenants
  }

  get isEmpty(): boolean {
    return this.#tenants.size === 0
  }

  find(tenant: string, type: string): DeviceRules | undefined {
    return this.#tenants.get(tenant)?.get(type)
  }
}
