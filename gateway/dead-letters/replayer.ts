import { randomUUIDv7 } from 'node:crypto'
import type { DeadLetterContext } from '#schema/dead-letter.ts'
import { recordKey } from '#schema/kafka-topics.ts'
import type { ReasonCode } from '#schema/reason-code.ts'
import type { Source, TelemetryEvent } from '#schema/telemetry-event.ts'
import { decodeTelemetry } from '#schema/telemetry-record.ts'
import type { Accounts } from '../accounts.ts'
import { fitsPattern } from '../auth/device-pattern.ts'
import type { Principal } from '../auth/principal.ts'
import type { EventLog } from '../event-log/event-log.ts'
import type { Ingress } from '../ingress.ts'
import type { Normalizer } from '../normalize/normalizer.ts'

/** What a sender may do today; its rights of back then are nobody's business any more. */
export interface SenderRights {
  readonly enabled: boolean
  /** Patterns of its live fleet credentials; null covers every device. Empty: it speaks for itself alone. */
  readonly patterns: readonly (string | null)[]
}

/** A dead letter as its row holds it, with what its sender may do. */
export interface ParkedLetter {
  readonly id: string
  readonly tenant: string
  readonly device: string
  readonly source: Source
  readonly topic: string | null
  readonly contentType: string | null
  readonly stage: 'decode' | 'store'
  readonly ingestTimeUs: number
  readonly payload: Buffer | null
  readonly context: DeadLetterContext | null
  /** Undefined: the registry does not know it. */
  readonly sender: SenderRights | undefined
}

/** How far a replay came in the gateway; what became of the messages is for whoever writes the rows to say. */
export type Replayed =
  | { readonly id: string; readonly kind: 'sent'; readonly messages: number }
  | { readonly id: string; readonly kind: 'ignored' }
  | { readonly id: string; readonly kind: 'parked'; readonly code: ReasonCode; readonly message: string }

export interface Replayer {
  /**
   * Sends dead letters down the path once more: decoding, rights, contracts, event log. No limit is charged: their senders have paid, and an
   * operator's hand is behind it. Resolves when the event log holds what could be read.
   * @param dryRun nothing is sent
   * @throws BridgeError BRIDGE_EVENT_LOG_UNAVAILABLE or _FULL: none of them counts as sent, and all may be replayed again
   */
  replay(letters: readonly ParkedLetter[], dryRun: boolean): Promise<readonly Replayed[]>
}

export interface ReplayerOptions {
  /** A normalizer with a clock of its own: arrivals of the past, which must not push those of today. */
  readonly createNormalizer: (dryRun: boolean) => Normalizer
  readonly eventLog: Pick<EventLog, 'append'>
  readonly accounts: Pick<Accounts, 'replayed'>
}

export function createReplayer({ createNormalizer, eventLog, accounts }: ReplayerOptions): Replayer {
  return {
    async replay(letters, dryRun) {
      const normalizer = createNormalizer(dryRun)
      const events: TelemetryEvent[] = []
      const replayed: Replayed[] = []
      const sources = { mqtt: 0, http: 0 }
      // Oldest first, so that untimed readings of equal arrivals keep their order.
      for (const letter of letters.toSorted((a, b) => a.ingestTimeUs - b.ingestTimeUs)) {
        const outcome = letter.stage === 'store' ? decoded(letter) : normalized(letter, normalizer)
        if (!Array.isArray(outcome)) {
          replayed.push(outcome)
          continue
        }
        for (const event of outcome) events.push(event)
        sources[letter.source] += outcome.length
        replayed.push({ id: letter.id, kind: 'sent', messages: outcome.length })
      }
      if (dryRun || events.length === 0) return replayed
      await eventLog.append(events, [])
      for (const source of ['mqtt', 'http'] as const) accounts.replayed(source, sources[source])
      return replayed
    },
  }
}

type Outcome = TelemetryEvent[] | Exclude<Replayed, { kind: 'sent' }>

/** What the worker parked was decoded already: its bytes are the record. */
function decoded(letter: ParkedLetter): Outcome {
  const { id, tenant, device, payload } = letter
  const event = decodeTelemetry(Buffer.from(recordKey(tenant, device)), payload)
  if (typeof event === 'string') return parked(id, 'malformed', event)
  return [{ ...event, id: randomUUIDv7(), replayOf: id }]
}

function normalized(letter: ParkedLetter, normalizer: Normalizer): Outcome {
  const { id, sender, payload, context } = letter
  const name = context?.sender ?? letter.device
  if (payload === null) return parked(id, 'record_refused', 'its bytes were not kept')
  if (sender === undefined)
    return parked(id, 'not_allowed', `its sender ${JSON.stringify(name)} is not in the registry`)
  if (!sender.enabled) return parked(id, 'not_allowed', `its sender ${JSON.stringify(name)} is disabled or removed`)
  const [outcome] = normalizer.normalize([ingressOf(letter, payload, principalOf(letter.tenant, name, sender))])
  switch (outcome?.kind) {
    case 'events':
      return [...outcome.events]
    case 'ignored':
      return { id, kind: 'ignored' }
    case 'dead':
      return parked(id, outcome.deadLetter.code, outcome.deadLetter.message)
    case 'refused':
      return parked(id, outcome.code, outcome.message)
    default:
      throw new TypeError('a normalizer without an answer')
  }
}

function parked(id: string, code: ReasonCode, message: string): Outcome {
  return { id, kind: 'parked', code, message }
}

function principalOf(tenant: string, device: string, { patterns }: SenderRights): Principal {
  return {
    tenant,
    device,
    fleet: patterns.length > 0,
    operator: false,
    credentialId: 'replay',
    expiresAtMs: Number.POSITIVE_INFINITY,
    allows: (other) => other === device || patterns.some((pattern) => fitsPattern(pattern, other)),
  }
}

function ingressOf(letter: ParkedLetter, payload: Buffer, principal: Principal): Ingress {
  const { id, source, topic, contentType, context, ingestTimeUs } = letter
  return {
    principal,
    source,
    topic: topic ?? '',
    contentType: contentType ?? undefined,
    payload,
    device: context?.device,
    fleetItem: context?.fleetItem === true,
    arrayElement: context?.arrayElement === true,
    messageKey: context?.messageKey,
    headers: context?.headers && new Map(Object.entries(context.headers)),
    replayOf: id,
    acknowledgesParked: true,
    ingestTimeUs,
    arrivedAtMs: performance.now(),
  }
}
