import type { Config } from '#platform/config-schema.ts'
import type { Verdict } from '../verdict.ts'
import { type ProtocolVersion, reasonCode } from './packet-types.ts'

/** Why a connection ended, for `fleetbridge_mqtt_closed_total`. */
export const closeReasons = [
  'client_disconnected',
  'lost',
  'connect_refused',
  'connect_timeout',
  'keep_alive',
  'taken_over',
  'revoked',
  'not_allowed',
  'rate_limited',
  'event_log_unavailable',
  'internal',
  'too_large',
  'malformed',
  'protocol_error',
  'topic_invalid',
  'quota_exceeded',
  'slow_reader',
  'shutting_down',
] as const
export type CloseReason = (typeof closeReasons)[number]

/** No PUBACK at all: the connection ends, and the client keeps its message and sends it again. */
export interface Withheld {
  readonly reason: CloseReason
  /** DISCONNECT of MQTT 5; on 3.1.1 the connection is just closed. */
  readonly code: number
  /** True: at the end of the message's hold time, or clients that come back at once would turn in a circle. */
  readonly holds: boolean
}

const notAllowed: Withheld = { reason: 'not_allowed', code: reasonCode.notAuthorized, holds: false }
const rateLimited: Withheld = { reason: 'rate_limited', code: reasonCode.messageRateTooHigh, holds: false }
export const eventLogAway: Withheld = { reason: 'event_log_unavailable', code: reasonCode.serverBusy, holds: true }
const broken: Withheld = { reason: 'internal', code: reasonCode.unspecified, holds: true }
export const stopping: Withheld = { reason: 'shutting_down', code: reasonCode.serverShuttingDown, holds: false }

/**
 * What a QoS 1 or 2 client hears about its message: the reason code of PUBACK or PUBREC (3.1.1 has none: it hears the packet alone), or why
 * it hears nothing.
 */
export function answerTo(
  verdict: Verdict,
  version: ProtocolVersion,
  onLimit: Config['mqtt']['onLimit'],
): number | Withheld {
  switch (verdict.kind) {
    case 'stored':
    case 'ignored':
      return reasonCode.success
    case 'parked':
      return version === 5 ? reasonCode.payloadFormatInvalid : reasonCode.success
    case 'refused':
      return answerToRefusal(verdict, version, onLimit)
  }
}

function answerToRefusal(
  { code }: Verdict & { kind: 'refused' },
  version: ProtocolVersion,
  onLimit: Config['mqtt']['onLimit'],
): number | Withheld {
  switch (code) {
    case 'rate_limited':
      // esp-mqtt and Paho forget a message at any PUBACK, so 0x97 is the operator's choice.
      return onLimit === 'refuse' && version === 5 ? reasonCode.quotaExceeded : rateLimited
    case 'not_allowed':
    case 'credential_disabled':
      return version === 5 ? reasonCode.notAuthorized : notAllowed
    case 'event_log_unavailable':
    case 'queue_full':
      return eventLogAway
    case 'shutting_down':
      return stopping
    default:
      return broken
  }
}

/** For packets that break the protocol. */
export function closeReasonOf(code: number): CloseReason {
  switch (code) {
    case reasonCode.packetTooLarge:
      return 'too_large'
    case reasonCode.malformed:
      return 'malformed'
    case reasonCode.topicNameInvalid:
      return 'topic_invalid'
    case reasonCode.quotaExceeded:
    case reasonCode.messageRateTooHigh:
      return 'quota_exceeded'
    default:
      return 'protocol_error'
  }
}
