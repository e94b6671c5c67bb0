import type { ReasonCode } from '#schema/reason-code.ts'
import type { Principal } from '../auth/principal.ts'
import type { Envelope, Lane } from '../envelope.ts'
import type { Ingress } from '../ingress.ts'
import { fleetMembers, type JsonMember } from '../normalize/split-json.ts'
import type { Pipeline } from '../pipeline-port.ts'
import { stored, type Verdict } from '../verdict.ts'
import type { Message } from './message.ts'

const fleetTopic = 'gateways/me/telemetry'
const maxItems = 10_000
/** Devices of a fleet body that weigh as much as one message. */
const itemsPerWeight = 16

/** The devices of a body that speaks for several; undefined for every other message. */
export function membersOf(topic: string, payload: Buffer): readonly JsonMember[] | undefined {
  return topic === fleetTopic ? fleetMembers(payload, maxItems) : undefined
}

export function weightOf(members: readonly JsonMember[] | undefined): number {
  return members === undefined ? 1 : Math.ceil(members.length / itemsPerWeight)
}

/** Pushes a message, or each device's part of it; the message is settled once all of them are. */
export function pushMessage(
  pipeline: Pipeline,
  message: Message,
  members: readonly JsonMember[] | undefined,
  onItem: OnItem,
): void {
  if (members !== undefined && members.length > maxItems) message.park = 'too_many_items'
  if (members === undefined || message.park !== undefined) {
    pipeline.push(message)
    return
  }
  const body = new FleetBody(message, members.length, onItem)
  for (const { key, value } of members) pipeline.push(new FleetItem(body, key, value))
}

/** Told of each device of a fleet body whose part was parked. */
export type OnItem = (device: string, code: ReasonCode) => void

/** One device's array out of a body on gateways/me/telemetry. The body is stored when each of its items is stored or parked. */
class FleetItem implements Ingress, Envelope {
  readonly #body: FleetBody
  readonly principal: Principal
  readonly lane: Lane
  readonly device: string
  readonly payload: Buffer
  readonly topic: string
  readonly contentType: string | undefined
  readonly holdUntilMs: number
  readonly ingestTimeUs: number
  readonly arrivedAtMs: number
  readonly source = 'mqtt'
  readonly fleetItem = true
  readonly acknowledgesParked = true

  constructor(body: FleetBody, device: string, payload: Buffer) {
    const { message } = body
    this.#body = body
    this.principal = message.principal
    this.lane = message.lane
    this.device = device
    this.payload = payload
    this.topic = message.topic
    this.contentType = message.contentType
    this.holdUntilMs = message.holdUntilMs
    this.ingestTimeUs = message.ingestTimeUs
    this.arrivedAtMs = message.arrivedAtMs
  }

  get ingress(): Ingress {
    return this
  }

  get deliveryKey(): string | undefined {
    return this.#body.message.deliveryKey
  }

  get resend(): boolean {
    return this.#body.message.resend
  }

  settle(verdict: Verdict): void {
    this.#body.onItem(this.device, verdict)
  }
}

/** Gathers the verdicts of a body's items into one for its message. */
class FleetBody {
  readonly message: Message
  readonly #onItem: OnItem
  #left: number
  #verdict: Verdict = stored

  constructor(message: Message, items: number, onItem: OnItem) {
    this.message = message
    this.#left = items
    this.#onItem = onItem
  }

  onItem(device: string, verdict: Verdict): void {
    if (verdict.kind === 'refused') this.#verdict = verdict
    if (verdict.kind === 'parked') this.#onItem(device, verdict.code)
    if (--this.#left === 0) this.message.settle(this.#verdict)
  }
}
