import { type Owner, owners, type Rule } from './limits.ts'

/** Which windows hold for whom. */
export interface LimitPolicy {
  /**
   * The windows of one owner: those of the configuration, unless the registry sets others for it.
   * The same frozen array comes back until something about it changes, so a limiter may compare by identity; asking allocates nothing.
   * @param payer device of the owners `device` and `fleet`; empty for `tenant`
   */
  rulesOf(owner: Owner, tenant: string, payer: string): readonly Rule[]
}

/** What the configuration says, for everybody alike. */
export function configuredPolicy(rules: readonly Rule[]): LimitPolicy {
  const byOwner = new Map<Owner, readonly Rule[]>(
    owners.map((owner) => [owner, Object.freeze(rules.filter((rule) => rule.owner === owner))]),
  )
  return { rulesOf: (owner) => byOwner.get(owner) as readonly Rule[] }
}
