import pg from 'pg'
import type { Config } from '#platform/config-schema.ts'
import { type Handle, handleOf } from '#platform/handle.ts'
import type { Log } from '#platform/log.ts'
import type { DeadLetter } from '#schema/dead-letter.ts'
import { letterOverhead, parkedBytes } from '../admin/registry/dead-letters.ts'

export type QuotaName = 'device_parked_bytes' | 'tenant_parked_bytes'

/** How long whoever is over it is told to wait: somebody has to mend, replay or purge. */
export const quotaWaitMs = 30_000

const readEveryMs = 30_000
/** A large table is not read all the time. */
const maxShare = 0.02

/**
 * Bytes that wait as dead letters, of each device and tenant: what the database holds, and what this gateway has parked since. Every gateway counts
 * for itself between two reads (30 s), so several may pass the quota by what each of them parks meanwhile, at most once the quota each.
 */
export class ParkedBytes {
  readonly #quotas: Config['deadLetters']
  /** As the database had it, without those far below the quota. Keyed by `tenant` and `tenant/device`. */
  #stored = new Map<string, number>()
  /** Parked here since the last read, and between that and the one before: the worker may not have written these by then. */
  #since = new Map<string, number>()
  #before = new Map<string, number>()

  constructor(quotas: Config['deadLetters']) {
    this.#quotas = quotas
  }

  /** Counts a dead letter, unless it is over a quota. An empty quota takes one of any size, or a large one could never be kept. */
  take({ tenant, device, payload }: Pick<DeadLetter, 'tenant' | 'device' | 'payload'>): QuotaName | undefined {
    const { deviceBytes, tenantBytes } = this.#quotas
    const bytes = (payload?.length ?? 0) + letterOverhead
    const ofDevice = `${tenant}/${device}`
    if (isOver(this.#of(ofDevice), bytes, deviceBytes)) return 'device_parked_bytes'
    if (isOver(this.#of(tenant), bytes, tenantBytes)) return 'tenant_parked_bytes'
    this.#since.set(ofDevice, (this.#since.get(ofDevice) ?? 0) + bytes)
    this.#since.set(tenant, (this.#since.get(tenant) ?? 0) + bytes)
    return undefined
  }

  /** Takes over what the database holds now. */
  read(stored: Map<string, number>): void {
    this.#stored = stored
    this.#before = this.#since
    this.#since = new Map()
  }

  #of(key: string): number {
    return (this.#stored.get(key) ?? 0) + (this.#before.get(key) ?? 0) + (this.#since.get(key) ?? 0)
  }
}

function isOver(used: number, bytes: number, quota: number): boolean {
  return used > 0 && used + bytes > quota
}

export interface ParkedQuota extends Handle {
  take(letter: Pick<DeadLetter, 'tenant' | 'device' | 'payload'>): QuotaName | undefined
}

/** Reads the database now and then. While it does not answer, what was known counts, and what is parked here. */
export function startParkedQuota(databaseUrl: string, quotas: Config['deadLetters'], log: Log): ParkedQuota {
  const bytes = new ParkedBytes(quotas)
  let timer: NodeJS.Timeout | undefined
  let closing = false
  const read = async () => {
    const startedAt = performance.now()
    try {
      bytes.read(await readOnce(databaseUrl, quotas))
    } catch (error) {
      log.debug({ err: error }, 'parked bytes cannot be read; what is known counts')
    }
    if (!closing) timer = setTimeout(next, Math.max(readEveryMs, (performance.now() - startedAt) / maxShare))
  }
  let reading = read()
  function next(): void {
    reading = read()
  }
  return {
    take: (letter) => bytes.take(letter),
    ...handleOf(async () => {
      closing = true
      clearTimeout(timer)
      await reading
    }),
  }
}

async function readOnce(databaseUrl: string, quotas: Config['deadLetters']): Promise<Map<string, number>> {
  const client = new pg.Client({
    connectionString: databaseUrl,
    application_name: 'fleetbridge parked bytes',
    connectionTimeoutMillis: 5000,
    query_timeout: 30_000,
  })
  client.on('error', () => undefined)
  try {
    await client.connect()
    return await parkedBytes(client, quotas)
  } finally {
    await client.end().catch(() => undefined)
  }
}
