import type { DeadLetter } from '#schema/dead-letter.ts'
import type { TelemetryEvent } from '#schema/telemetry-event.ts'
import type { Authenticator } from '../auth/authenticator.ts'
import { fitsPattern } from '../auth/device-pattern.ts'
import type { Principal } from '../auth/principal.ts'
import type { Ingress } from '../ingress.ts'
import { ArrivalClock } from './arrival-clock.ts'
import { createNormalizer } from './create-normalizer.ts'
import type { Outcome } from './normalizer.ts'

/** Messages for the tests of the normalizer, and what became of them. */
export const arrivalMs = Date.UTC(2026, 0, 15, 12)
export const arrivalUs = arrivalMs * 1000
export const dayMs = 86_400_000

export function deviceOf(device: string): Principal {
  return {
    tenant: 'default',
    device,
    fleet: false,
    credentialId: device,
    operator: false,
    expiresAtMs: Number.POSITIVE_INFINITY,
    allows: (other) => other === device,
  }
}

export function fleetOf(device: string, pattern: string | null = null): Principal {
  return {
    tenant: 'acme',
    device,
    fleet: true,
    credentialId: device,
    operator: false,
    expiresAtMs: Number.POSITIVE_INFINITY,
    allows: (other) => other === device || fitsPattern(pattern, other),
  }
}

export const pump = deviceOf('pump-1')
export const gateway = fleetOf('gw-1')

export function ingress(body: string | Buffer, more: Partial<Ingress> = {}): Ingress {
  return {
    principal: pump,
    source: 'mqtt',
    topic: 'devices/me/telemetry',
    contentType: undefined,
    payload: typeof body === 'string' ? Buffer.from(body) : body,
    device: undefined,
    fleetItem: false,
    acknowledgesParked: false,
    ingestTimeUs: arrivalUs,
    arrivedAtMs: 0,
    ...more,
  }
}

export const http = (more: Partial<Ingress> = {}): Partial<Ingress> => ({
  source: 'http',
  topic: '/v1/telemetry',
  contentType: 'application/json',
  ...more,
})

export function normalizer(admitDevice: Authenticator['admitDevice'] = () => 'admitted', retentionMs = 90 * dayMs) {
  return createNormalizer({ retentionMs, authenticator: { admitDevice }, clock: new ArrivalClock() })
}

export function outcomeOf(message: Ingress, admitDevice?: Authenticator['admitDevice']): Outcome {
  const [outcome] = normalizer(admitDevice).normalize([message])
  if (outcome === undefined) throw new Error('no outcome')
  return outcome
}

export function eventsOf(outcome: Outcome): readonly TelemetryEvent[] {
  if (outcome.kind !== 'events') throw new Error(`not stored but ${JSON.stringify(outcome)}`)
  return outcome.events
}

export function eventOf(message: Ingress): TelemetryEvent {
  const events = eventsOf(outcomeOf(message))
  if (events.length !== 1) throw new Error(`${events.length} events`)
  return events[0] as TelemetryEvent
}

export function deadLetterOf(outcome: Outcome): DeadLetter {
  if (outcome.kind !== 'dead') throw new Error(`not parked but ${JSON.stringify(outcome)}`)
  return outcome.deadLetter
}

export const codeOf = (message: Ingress) => deadLetterOf(outcomeOf(message)).code
