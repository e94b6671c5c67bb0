import type { Metrics } from '#platform/metrics.ts'
import type { AuthRefusal } from './authenticator.ts'

export type ShownKind = 'none' | 'token' | 'password' | 'jwt' | 'certificate'
type Result = 'admitted' | AuthRefusal

const kinds = ['none', 'token', 'password', 'jwt', 'certificate'] as const satisfies readonly ShownKind[]
const results = ['admitted', 'unknown', 'disabled', 'unavailable'] as const satisfies readonly Result[]

/** Counts answers by what was shown. A wrong secret counts as what it was taken for last: a password when a user name came with it. */
export class AuthCounts {
  readonly #counts = new Float64Array(kinds.length * results.length)

  constructor(metrics: Metrics) {
    const counts = this.#counts
    metrics.totals(
      'fleetbridge_auth_total',
      'Connections and requests that showed credentials, or none, by result',
      ['kind', 'result'],
      function* read() {
        for (const [index, kind] of kinds.entries())
          for (const [offset, result] of results.entries())
            yield [{ kind, result }, counts[index * results.length + offset] as number]
      },
    )
  }

  count(kind: ShownKind, result: Result): void {
    const index = kinds.indexOf(kind) * results.length + results.indexOf(result)
    this.#counts[index] = (this.#counts[index] as number) + 1
  }
}
