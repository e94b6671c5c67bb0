import type { DeadLetterContext } from '#schema/dead-letter.ts'
import type { Reading, Source } from '#schema/telemetry-event.ts'
import type { Ingress } from '../ingress.ts'
import { createNormalizer } from '../normalize/create-normalizer.ts'
import type { Routes } from '../routes/route-table.ts'

/** A message of the past, as its bytes were kept. */
export interface OldMessage {
  readonly ingestTimeUs: number
  readonly source: Source
  readonly topic: string
  readonly contentType: string | null
  readonly context: DeadLetterContext | null
  readonly payload: Buffer
  /** What it became. */
  readonly readings: readonly Reading[]
}

export type DecodedAgain =
  | { readonly kind: 'same' }
  | {
      readonly kind: 'different'
      readonly removed: readonly Reading[]
      readonly added: readonly Reading[]
      readonly readings: readonly Reading[]
    }
  /** Today's rules cannot read it, or take it for another device's: its readings stay. */
  | { readonly kind: 'failed'; readonly code: string; readonly message: string }

export interface Rules {
  readonly tenant: string
  readonly device: string
  readonly routes: Routes
  /** Other names of the tenant's devices. */
  readonly aliases: ReadonlyMap<string, string>
}

/**
 * Decodes messages of one device by today's rules: formats, routes, aliases. Whether the sender may, its contract and the retention were judged at its
 * arrival. Give them in the order of their arrivals: some formats lean on earlier messages.
 */
export function createDecoderOfOld({ tenant, device, routes, aliases }: Rules): (message: OldMessage) => DecodedAgain {
  const names = { deviceOf: (name: string) => aliases.get(name) }
  const normalizer = createNormalizer({
    retentionMs: undefined,
    authenticator: { admitDevice: () => 'admitted' },
    routes,
    aliases: aliases.size === 0 ? undefined : { of: (other) => (other === tenant ? names : undefined) },
  })
  return (message) => {
    const [outcome] = normalizer.normalize([ingressOf(tenant, device, message)])
    switch (outcome?.kind) {
      case 'ignored':
        return differenceOf(message.readings, [])
      case 'events': {
        const own = outcome.events.find((event) => event.device === device)
        if (own !== undefined) return differenceOf(message.readings, inTheirTime(message.readings, own.readings))
        const others = outcome.events.map((event) => JSON.stringify(event.device)).join(', ')
        return {
          kind: 'failed',
          code: 'not_allowed',
          message: `it would be of another device now: ${others.slice(0, 200)}`,
        }
      }
      case 'dead':
        return { kind: 'failed', code: outcome.deadLetter.code, message: outcome.deadLetter.message }
      case 'refused':
        return { kind: 'failed', code: outcome.code, message: outcome.message }
      default:
        throw new TypeError('a normalizer without an answer')
    }
  }
}

function ingressOf(tenant: string, device: string, message: OldMessage): Ingress {
  const { source, topic, contentType, context, payload, ingestTimeUs } = message
  return {
    principal: {
      tenant,
      device: context?.sender ?? device,
      fleet: context?.fleet === true,
      operator: false,
      credentialId: 'redecode',
      expiresAtMs: Number.POSITIVE_INFINITY,
      allows: () => true,
    },
    source,
    topic,
    contentType: contentType ?? undefined,
    headers: context?.headers === undefined ? undefined : new Map(Object.entries(context.headers)),
    payload,
    device: context?.device,
    fleetItem: context?.fleetItem === true,
    arrayElement: context?.arrayElement === true,
    acknowledgesParked: true,
    ingestTimeUs,
    arrivedAtMs: performance.now(),
  }
}

/** Readings without a time had that of their arrival, which may have been put off by some microseconds: they keep theirs. */
function inTheirTime(before: readonly Reading[], after: readonly Reading[]): readonly Reading[] {
  const first = (readings: readonly Reading[]) => {
    const arrivals = readings.filter(({ clock }) => clock !== undefined).map(({ eventTimeUs }) => eventTimeUs)
    return arrivals.length === 0 ? undefined : Math.min(...arrivals)
  }
  const [was, is] = [first(before), first(after)]
  if (was === undefined || is === undefined || was === is) return after
  return after.map((reading) =>
    reading.clock === undefined ? reading : { ...reading, eventTimeUs: reading.eventTimeUs + was - is },
  )
}

function differenceOf(before: readonly Reading[], after: readonly Reading[]): DecodedAgain {
  const [removed, added] = [without(before, after), without(after, before)]
  if (removed.length + added.length === 0) return { kind: 'same' }
  return { kind: 'different', removed, added, readings: after }
}

/** Those of `some` that are not in `others`, as often as they are there. */
function without(some: readonly Reading[], others: readonly Reading[]): Reading[] {
  const counts = new Map<string, number>()
  for (const other of others) counts.set(keyOf(other), (counts.get(keyOf(other)) ?? 0) + 1)
  return some.filter((reading) => {
    const count = counts.get(keyOf(reading)) ?? 0
    counts.set(keyOf(reading), count - 1)
    return count <= 0
  })
}

function keyOf({ metric, unit, value, text, flag, eventTimeUs, clock, deviceTimeUs }: Reading): string {
  return JSON.stringify([metric, unit ?? null, value ?? text ?? flag, eventTimeUs, clock ?? 0, deviceTimeUs ?? null])
}
