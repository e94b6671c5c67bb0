import { randomUUIDv7 } from 'node:crypto'
import type { DeadLetter, DeadLetterContext } from '#schema/dead-letter.ts'
import type { ReasonCode } from '#schema/reason-code.ts'
import type { RawMessage, Reading, TelemetryEvent } from '#schema/telemetry-event.ts'
import type { Aliases, Authenticator, TenantAliases } from '../auth/authenticator.ts'
import type { DeviceRules } from '../auth/device-rules.ts'
import type { Ingress } from '../ingress.ts'
import type { Routes } from '../routes/route-table.ts'
import { ArrivalClock } from './arrival-clock.ts'
import type { Codec, Decoded, RawReading } from './codec.ts'
import { CodecInput } from './codec-input.ts'
import { DecodeError } from './decode-error.ts'
import { decodeRouted } from './decode-message.ts'
import { faultOfDevice } from './device-id.ts'
import { EdgeNodes } from './edge-nodes.ts'
import type { Normalizer, Outcome } from './normalizer.ts'
import { oneLine, quoted } from './quote.ts'
import { checkReading } from './reading-limits.ts'
import { type ReadingDraft, ReadingTimes } from './reading-times.ts'

export interface NormalizerOptions {
  /** Readings older than this are parked; undefined keeps all. */
  readonly retentionMs: number | undefined
  /** Asked whether a fleet credential may write a device that is not its own. */
  readonly authenticator: Pick<Authenticator, 'admitDevice'>
  /** What holds for a device by its type. */
  readonly rulesOf?: (tenant: string, device: string) => DeviceRules | undefined
  /** Told of each message that breaks a contract in the mode `warn`, and is stored. */
  readonly onContractBroken?: () => void
  /** One a process, or two messages could share a microsecond. */
  readonly clock?: ArrivalClock
  /** What operators have said about topics and paths; absent: the default order decides alone. */
  readonly routes?: Routes | undefined
  /** Other names of devices; absent: there are none. */
  readonly aliases?: Aliases | undefined
  readonly edgeNodes?: EdgeNodes
  /** Called with a Sparkplug edge node whose birth is not known, and that the sender may speak for; not too often for one node. */
  readonly askForBirth?: (tenant: string, node: string) => void
}

export function createNormalizer(options: NormalizerOptions): Normalizer {
  return new MessageNormalizer(options)
}

/** One device's part of a message. */
interface Share {
  readonly device: string
  readonly readings: Reading[]
  /** Its type tells messages apart. */
  byMessage: boolean
}

class MessageNormalizer implements Normalizer {
  readonly #retentionUs: number
  readonly #authenticator: Pick<Authenticator, 'admitDevice'>
  readonly #clock: ArrivalClock
  readonly #routes: Routes | undefined
  readonly #aliases: Aliases | undefined
  readonly #edgeNodes: EdgeNodes
  readonly #askForBirth: (tenant: string, node: string) => void

  readonly #rulesOf: NonNullable<NormalizerOptions['rulesOf']>
  readonly #onContractBroken: () => void

  constructor(options: NormalizerOptions) {
    const { retentionMs, authenticator, clock, routes, aliases, edgeNodes, askForBirth } = options
    this.#retentionUs = retentionMs === undefined ? Number.POSITIVE_INFINITY : retentionMs * 1000
    this.#authenticator = authenticator
    this.#clock = clock ?? new ArrivalClock()
    this.#routes = routes
    this.#aliases = aliases
    this.#edgeNodes = edgeNodes ?? new EdgeNodes()
    this.#askForBirth = askForBirth ?? (() => {})
    this.#rulesOf = options.rulesOf ?? (() => undefined)
    this.#onContractBroken = options.onContractBroken ?? (() => undefined)
  }

  normalize(batch: readonly Ingress[]): readonly Outcome[] {
    const outcomes: Outcome[] = []
    for (const ingress of batch) outcomes.push(this.#outcomeOf(ingress))
    return outcomes
  }

  #outcomeOf(ingress: Ingress): Outcome {
    // Before everything: whatever an operator sends, nothing of it is kept.
    if (ingress.principal.operator) return notAllowed(ingress, 'an operator credential only subscribes')
    if (ingress.park !== undefined) return parked(ingress, ingress.park, reasonToPark(ingress.park))
    const aliases = this.#aliases?.of(ingress.principal.tenant)
    const named = namedDevice(ingress, aliases)
    try {
      // Before the bytes are looked at: what is sent for a device that is not the sender's is not kept, whatever it holds.
      const stop = named === undefined ? undefined : this.#checkDevice(ingress, named, undefined)
      return stop ?? this.#decode(ingress, named, aliases)
    } catch (error) {
      if (error instanceof DecodeError) {
        if (error.unborn !== undefined) this.#onUnborn(ingress, error.unborn)
        return parked(ingress, error.code, error.message)
      }
      // A message that breaks a decoder is kept, so that nothing is lost and the decoder can be mended.
      return parked(ingress, 'malformed', 'decoder failure')
    }
  }

  #decode(ingress: Ingress, named: string | undefined, aliases: TenantAliases | undefined): Outcome {
    const { principal } = ingress
    const route = this.#routes?.find(ingress)
    // What the path or the fleet body says is not the route's to change.
    const templated = named === undefined ? route?.deviceOf(principal.device) : undefined
    const input = new CodecInput(ingress.payload, {
      transport: ingress.source,
      topic: ingress.topic,
      contentType: ingress.contentType,
      headers: ingress.headers,
      tenant: principal.tenant,
      transportDevice: principal.device,
      device: named ?? templated,
      fleet: principal.fleet,
      arrayElement: ingress.arrayElement === true,
      arrivalUs: ingress.ingestTimeUs,
      options: route?.rule.options,
      edgeNodes: this.#edgeNodes,
    })
    const { codec, decoded } = decodeRouted(input, route, named === undefined)
    if (decoded.unborn !== undefined) this.#onUnborn(ingress, decoded.unborn)
    const readings =
      aliases === undefined ? decoded.readings : withoutAliases(decoded.readings, principal.device, aliases)
    if (readings.length === 0) return ignored
    const shares = sharesOf(readings)
    for (const { device } of shares) {
      const stop = device === named ? undefined : this.#checkDevice(ingress, device, named)
      if (stop !== undefined) return stop
    }
    const tooOld = this.#fill(shares, readings, ingress)
    if (tooOld !== undefined) return tooOld
    const broken = this.#applyRules(shares, ingress)
    if (broken !== undefined) return broken
    // Last, since it counts unknown devices against the credential's cap: only messages that will be stored may do so.
    for (const { device } of shares) {
      const stop = this.#admit(ingress, device)
      if (stop !== undefined) return stop
    }
    return eventsOf(ingress, codec, decoded, shares, route?.rule.keepRawDays)
  }

  /** Only whoever may speak for a node can have it asked. */
  #onUnborn({ principal }: Ingress, node: string): void {
    const { tenant, device: sender } = principal
    if (!principal.allows(node) || faultOfDevice(node) !== undefined) return
    if (this.#edgeNodes.mayAsk({ tenant, sender, node }, performance.now())) this.#askForBirth(tenant, node)
  }

  /** @param named the device that path or fleet body names, which the payload must not contradict */
  #checkDevice(ingress: Ingress, device: string, named: string | undefined): Outcome | undefined {
    const { principal } = ingress
    if (named === undefined && device === principal.device) return undefined
    const fault = faultOfDevice(device)
    if (fault !== undefined) return parked(ingress, 'bad_device', `device id ${quoted(device)}: ${fault}`)
    if (named !== undefined)
      return notAllowed(ingress, `the payload names ${quoted(device)}, but it was sent for ${quoted(named)}`)
    if (principal.allows(device)) return undefined
    return notAllowed(ingress, `this credential does not speak for device ${quoted(device)}`)
  }

  /** What the types of the devices ask for. */
  #applyRules(shares: readonly Share[], ingress: Ingress): Outcome | undefined {
    const { tenant } = ingress.principal
    let isBroken = false
    for (const share of shares) {
      const rules = this.#rulesOf(tenant, share.device)
      if (rules === undefined) continue
      share.byMessage = rules.identity === 'message'
      const fault = rules.contract?.faultOf(share.readings)
      if (fault === undefined) continue
      if (rules.contractMode === 'park') return parked(ingress, 'contract', fault)
      isBroken = true
    }
    if (isBroken) this.#onContractBroken()
    return undefined
  }

  #admit(ingress: Ingress, device: string): Outcome | undefined {
    const { principal } = ingress
    if (device === principal.device) return undefined
    const answer = this.#authenticator.admitDevice(principal, device)
    if (answer === 'admitted') return undefined
    if (answer === 'disabled') return notAllowed(ingress, `device ${quoted(device)} is disabled`)
    return parked(
      ingress,
      'too_many_devices',
      `device ${quoted(device)} would be one unknown device too many for this credential`,
    )
  }

  /** Checks every reading and puts it into its device's share. */
  #fill(shares: readonly Share[], raws: readonly RawReading[], ingress: Ingress): Outcome | undefined {
    const { ingestTimeUs } = ingress
    const oldestUs = ingestTimeUs - this.#retentionUs
    const times = new ReadingTimes(this.#clock, ingestTimeUs)
    const byDevice = shares.length === 1 ? undefined : new Map(shares.map((share) => [share.device, share]))
    for (const raw of raws) {
      checkReading(raw)
      if (raw.timeUs !== undefined && raw.timeUs < oldestUs) return parked(ingress, 'too_old', ageOf(raw, raw.timeUs))
      const share = byDevice === undefined ? shares[0] : byDevice.get(raw.device)
      const reading = readingOf(raw)
      times.stamp(reading, raw)
      share?.readings.push(reading)
    }
    return undefined
  }
}

const ignored: Outcome = Object.freeze({ kind: 'ignored' })

/** `me` in a path or a fleet body is the sender. */
function namedDevice({ device, principal }: Ingress, aliases?: TenantAliases): string | undefined {
  if (device === undefined || device === 'me' || device === principal.device)
    return device === undefined ? undefined : principal.device
  return aliases?.deviceOf(device) ?? device
}

/** The readings under the ids of their devices. */
function withoutAliases(raws: readonly RawReading[], own: string, aliases: TenantAliases): readonly RawReading[] {
  let resolved: RawReading[] | undefined
  let last = own // no alias: an id is never one
  let id: string | undefined
  for (const [index, raw] of raws.entries()) {
    if (raw.device !== last) {
      last = raw.device
      id = last === own ? undefined : aliases.deviceOf(last)
    }
    if (id === undefined) continue
    resolved ??= [...raws]
    resolved[index] = { ...raw, device: id }
  }
  return resolved ?? raws
}

/** The devices of a message in the order of their first readings. */
function sharesOf(raws: readonly RawReading[]): Share[] {
  const shares: Share[] = []
  let seen: Set<string> | undefined
  let last: string | undefined
  for (const { device } of raws) {
    if (device === last || seen?.has(device)) continue
    if (last !== undefined) {
      seen ??= new Set([last])
      seen.add(device)
    }
    last = device
    shares.push({ device, readings: [], byMessage: false })
  }
  return shares
}

function readingOf({ metric, value, unit, timeUs = 0 }: RawReading): ReadingDraft {
  const reading: ReadingDraft =
    typeof value === 'number'
      ? { metric, value: value + 0, eventTimeUs: timeUs } // -0 becomes 0, which is equal for people but not for a key
      : typeof value === 'string'
        ? { metric, text: value, eventTimeUs: timeUs }
        : { metric, flag: value, eventTimeUs: timeUs }
  if (unit !== undefined) reading.unit = unit
  return reading
}

function eventsOf(
  ingress: Ingress,
  codec: Codec,
  decoded: Decoded,
  shares: readonly Share[],
  keepRawDays: number | undefined,
): Outcome {
  const { principal, source, ingestTimeUs, replayOf } = ingress
  // The message's own name goes before that of the request, which may be a client's that names each attempt anew.
  const messageKey = decoded.messageKey ?? ingress.messageKey
  const events: TelemetryEvent[] = []
  for (const { device, readings, byMessage } of shares) {
    const isUntimed = readings.some(hasArrivalTime)
    // The arrival of a replayed one may be that of another of the same moment, which is stored; its own name tells it from that.
    const identity = decoded.identity ?? (byMessage || (replayOf !== undefined && isUntimed) ? 'message' : undefined)
    const needsDelivery = messageKey === undefined && (identity !== undefined || isUntimed)
    const deliveryKey = needsDelivery ? ingress.deliveryKey : undefined
    events.push({
      v: 1,
      id: randomUUIDv7(),
      ...(messageKey !== undefined && { messageKey }),
      ...(identity !== undefined && { identity }),
      ...(deliveryKey !== undefined && { deliveryKey, ...(ingress.resend === true && { resend: true }) }),
      ...(replayOf !== undefined && { replayOf }),
      tenant: principal.tenant,
      device,
      ...(device !== principal.device && { gateway: principal.device }),
      source,
      codec: codec.name,
      ingestTimeUs,
      readings,
      ...(keepRawDays !== undefined && rawOf(ingress, device, keepRawDays)),
    })
  }
  return { kind: 'events', events }
}

/** Larger ones are not kept: each is in the event log once more, and in the database. */
const maxRawBytes = 65_536

function rawOf(ingress: Ingress, device: string, keepDays: number): { raw: RawMessage } | undefined {
  const { topic, contentType, payload } = ingress
  if (payload.length > maxRawBytes) return undefined
  const context = contextOf(ingress, device)
  return {
    raw: {
      topic,
      ...(contentType !== undefined && { contentType }),
      payload: payload.toString('base64'),
      ...(context !== undefined && { context }),
      keepDays,
    },
  }
}

/** A re-send has another arrival, so its readings do not show that it is one. */
const hasArrivalTime = ({ clock }: Reading) => clock !== undefined

/** Refused, but for one device of a fleet body: its siblings were taken, and the one answer says so. */
function notAllowed(ingress: Ingress, message: string): Outcome {
  if (ingress.fleetItem) return parked(ingress, 'not_allowed', message)
  return { kind: 'refused', code: 'not_allowed', message: oneLine(message) }
}

function parked(ingress: Ingress, code: ReasonCode, message: string): Outcome {
  const { principal, source, topic, contentType, payload, acknowledgesParked, ingestTimeUs } = ingress
  const named = namedDevice(ingress)
  // An illegal id cannot be a key; it is in the message.
  const device = named === undefined || faultOfDevice(named) !== undefined ? principal.device : named
  const context = contextOf(ingress, device)
  const deadLetter: DeadLetter = {
    id: randomUUIDv7(),
    tenant: principal.tenant,
    device,
    source,
    topic,
    ...(contentType !== undefined && { contentType }),
    stage: 'decode',
    code,
    message: oneLine(message),
    acknowledged: acknowledgesParked,
    ingestTimeUs,
    payload,
    ...(context !== undefined && { context }),
  }
  return { kind: 'dead', deadLetter }
}

/** What a replay has to know beside the bytes; undefined for a device's own message, which says everything. */
function contextOf({ principal, device, fleetItem, arrayElement, messageKey, headers }: Ingress, of: string) {
  const context: DeadLetterContext = {
    ...(principal.device !== of && { sender: principal.device }),
    ...(principal.fleet && { fleet: true }),
    ...(fleetItem && { fleetItem: true }),
    ...(arrayElement === true && { arrayElement: true }),
    ...(device !== undefined && { device }),
    ...(messageKey !== undefined && { messageKey }),
    ...(headers !== undefined && { headers: Object.fromEntries(headers) }),
  }
  for (const _ in context) return context
  return undefined
}

/** Why a source had a message kept without decoding. */
function reasonToPark(code: ReasonCode): string {
  if (code === 'not_allowed') return 'refused before and sent again; kept, or it would be sent for ever'
  return code === 'too_many_items' ? 'it holds more messages than one may carry' : 'kept without decoding'
}

function ageOf({ metric }: RawReading, timeUs: number): string {
  return `${quoted(metric)} is from ${new Date(timeUs / 1000).toISOString()}, longer ago than readings are kept`
}
