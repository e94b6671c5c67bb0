import type { Handle } from '#platform/handle.ts'

/** What one message, or its decoded readings, spends. A part that is 0 asks nothing of its buckets. */
export interface Cost {
  readonly tenant: string
  /** Device whose buckets pay; undefined before a fleet credential's message is decoded. */
  readonly device: string | undefined
  /** The fleet credential's device, whose buckets pay as well; undefined for a device's own credential. */
  readonly fleet: string | undefined
  readonly messages: number
  readonly readings: number
  readonly bytes: number
  /** Messages of a backlog: they have buckets of their own, so that it leaves those of live data alone. */
  readonly catchUp?: number
  /** True: only the device's own buckets pay (a device behind a fleet credential, whose fleet and tenant have paid already). */
  readonly deviceOnly?: boolean
}

/** Whose limit said no; the quantity follows after `_`, messages have none. Those of a backlog begin with `catch_up`. */
export type LimitName =
  | `${'device' | 'fleet' | 'tenant' | 'all'}${'' | '_readings' | '_bytes'}`
  | `catch_up_${'device' | 'fleet' | 'tenant'}`

export interface Wait {
  /** Milliseconds until the cost could pass, at least 1. */
  readonly ms: number
  readonly limit: LimitName
}

/** One window of one limit, and what is left of it. */
export interface LimitLevel {
  readonly limit: LimitName
  readonly burst: number
  readonly seconds: number
  /** Whole tokens that could be spent at once, at least 0. */
  readonly left: number
  /** Milliseconds until the bucket is full again when nobody spends. */
  readonly resetMs: number
}

export interface RateLimiter extends Handle {
  readonly kind: 'memory' | 'redis'
  /**
   * Spends each cost on its device's, fleet's and tenant's buckets, all or none. Refill follows RFC 2697 §3.
   * Costs are taken in order; once one is refused, later ones of the same bucket in the same call are refused too when they do not fit.
   * @param costs a cost above the burst passes from a full bucket and leaves it in debt, or it could never pass
   * @returns for each cost undefined when spent, else how long to wait and for which limit; without Redis the answer comes from the local share
   */
  take(costs: readonly Cost[]): Promise<readonly (Wait | undefined)[]>
  /** Puts back what these costs have taken just now, as far as it is not refilled yet. */
  giveBack(costs: readonly Cost[]): void
  /** The windows that hold for a device, as this gateway knows them without asking: what it has in hand, and the level it heard of last. */
  known(tenant: string, device: string | undefined, fleet: string | undefined): readonly LimitLevel[]
  /** The same as whoever counts has it now; what this gateway knows when that does not answer. */
  levels(tenant: string, device: string | undefined, fleet: string | undefined): Promise<readonly LimitLevel[]>
}
