import type { ReasonCode } from '#schema/reason-code.ts'
import type { Principal } from '../auth/principal.ts'
import type { Envelope, Lane } from '../envelope.ts'
import type { Ingress } from '../ingress.ts'
import type { Verdict } from '../verdict.ts'

/** Not answered yet; or never to be answered, since the connection ends instead. */
export const pending = -1
export const withheld = -2

export type Refused = Verdict & { kind: 'refused' }

/** Who sent a message and answers for it: its connection, also after that was closed. */
export interface MessageOwner {
  onSettled(message: Message, verdict: Verdict): void
  /** A message got its verdict, of which `copy` is a re-send that came by this owner. */
  onOriginalSettled(copy: Message, original: Message, verdict: Verdict): void
}

/** What one PUBLISH says, apart from whose it is. */
export interface MessageParts {
  readonly qos: number
  /** 0 at QoS 0. */
  readonly packetId: number
  /** Checksum of topic and payload; with the packet id it tells a re-send from another message. */
  readonly checksum: number
  /** Its client's name inside the broker, the same on every gateway. */
  readonly client: string
  /** The DUP flag. */
  readonly resend: boolean
  readonly topic: string
  readonly contentType: string | undefined
  readonly payload: Buffer
  readonly acknowledgesParked: boolean
  readonly holdUntilMs: number
  readonly ingestTimeUs: number
  readonly arrivedAtMs: number
}

/**
 * One PUBLISH from its arrival to its answer. It is its own Ingress and Envelope, so a message costs one object; `settle` is a method of the
 * class, so no closure.
 */
export class Message implements Ingress, Envelope {
  readonly owner: MessageOwner
  readonly principal: Principal
  readonly lane: Lane
  readonly qos: number
  readonly packetId: number
  readonly checksum: number
  readonly client: string
  readonly resend: boolean
  readonly topic: string
  readonly contentType: string | undefined
  readonly payload: Buffer
  readonly acknowledgesParked: boolean
  readonly holdUntilMs: number
  readonly ingestTimeUs: number
  readonly arrivedAtMs: number
  readonly holdsShared: boolean
  readonly source = 'mqtt'
  readonly device = undefined
  readonly fleetItem = false
  /** Bytes it holds of its client's share; 0 once it gave them back. */
  bytes: number
  /** Its part of the client's share of messages: more than 1 for a body that speaks for many devices. */
  weight = 1
  /** Reason code of its PUBACK or PUBREC, or `pending`, or `withheld`. */
  answer = pending
  /** Next in the order in which its connection has to answer. */
  next: Message | undefined = undefined
  /** Re-sends of this very message, which share its answer. */
  copies: Message[] | undefined = undefined
  isResend = false
  /** The first copy of a re-send, which does not go into the pipeline itself. */
  original: Message | undefined = undefined
  /** Why there will be no answer. */
  refusal: Refused | undefined = undefined
  /** Set while somebody has subscribed to its topic: the name of that inside the broker. */
  inside: string | undefined = undefined
  /** A message for other clients, which the pipeline never sees. */
  isGeneral = false
  /** Devices of a fleet body whose part was parked; only for one that somebody sees. */
  parkedDevices: Set<string> | undefined = undefined
  /** Set for a message that is not decoded, but kept as a dead letter with this code. */
  park?: ReasonCode

  constructor(owner: MessageOwner, principal: Principal, lane: Lane, parts: MessageParts) {
    this.owner = owner
    this.principal = principal
    this.lane = lane
    this.qos = parts.qos
    this.packetId = parts.packetId
    this.checksum = parts.checksum
    this.client = parts.client
    this.resend = parts.resend
    this.topic = parts.topic
    this.contentType = parts.contentType
    this.payload = parts.payload
    this.acknowledgesParked = parts.acknowledgesParked
    this.holdUntilMs = parts.holdUntilMs
    this.ingestTimeUs = parts.ingestTimeUs
    this.arrivedAtMs = parts.arrivedAtMs
    this.holdsShared = parts.qos > 0
    this.bytes = parts.payload.length
  }

  get ingress(): Ingress {
    return this
  }

  /** Made only when somebody asks: most messages are told apart by their readings. */
  get deliveryKey(): string | undefined {
    return this.qos === 0 ? undefined : `${this.client} ${this.qos} ${this.packetId} ${this.checksum}`
  }

  settle(verdict: Verdict): void {
    this.owner.onSettled(this, verdict)
  }

  /** Whether a PUBLISH is this message once more. */
  isSame(qos: number, packetId: number, checksum: number): boolean {
    return this.packetId === packetId && this.checksum === checksum && this.qos === qos
  }
}

/** A small payload must not keep the whole chunk alive in which it came. */
export function kept(payload: Buffer, chunk: Buffer): Buffer {
  return chunk.length > 2048 && payload.length * 4 < chunk.length ? Buffer.from(payload) : payload
}
