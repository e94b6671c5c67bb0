import { randomBytes } from 'node:crypto'
import type { IConnectPacket } from 'mqtt-packet'
import type { AuthRefusal } from '../auth/authenticator.ts'
import type { Principal } from '../auth/principal.ts'
import { readControlPacket, writeControlPacket } from './control-packet.ts'
import { faultOfConnect } from './guard/connect-guard.ts'
import type { OpenMode } from './open-mode.ts'
import { type ProtocolVersion, reasonCode } from './packet-types.ts'
import { faultOfTopicName, isTooLarge, type TopicLimits, useOfTopic } from './topic.ts'
import { type Will, willOf } from './will.ts'

/** What became of a CONNECT, for `fleetbridge_mqtt_connects_total`. */
export const connectResults = [
  'accepted',
  'bad_credentials',
  'credential_disabled',
  'credentials_unavailable',
  'will_not_allowed',
  'bad_client_id',
  'too_many_clients',
  'unsupported',
  'protocol_error',
  'too_many_connections',
  'too_many_from_address',
  'connect_rate',
  'timeout',
] as const
export type ConnectResult = (typeof connectResults)[number]

/** A CONNECT that may go on. */
export interface AcceptedConnect {
  readonly principal: Principal
  readonly version: ProtocolVersion
  /** As the device sees it; ours when it left the choice to us. */
  readonly clientId: string
  readonly isAssigned: boolean
  readonly clean: boolean
  /** How long the session outlives the connection; 0: not at all. */
  readonly sessionSeconds: number
  /** Whether that is less than an MQTT 5 client asked for. */
  readonly isSessionShortened: boolean
  /** 0 switches the clock off. */
  readonly keepAliveSeconds: number
  /** Whether that is ours and less than an MQTT 5 client asked for. */
  readonly isKeepAliveShortened: boolean
  /** Largest packet that the client takes. */
  readonly maxPacketBytes: number
  /** Messages without an acknowledgement that the client takes. */
  readonly receiveMaximum: number
  /** Topic aliases that the client takes. */
  readonly topicAliasMaximum: number
  /** False: no reason strings outside of CONNACK and DISCONNECT [MQTT-3.1.2-29]; we send none at all then. */
  readonly wantsProblemInformation: boolean
  readonly will: Will | undefined
}

export interface RefusedConnect {
  readonly result: ConnectResult
  /** Reason code for MQTT 5, return code for 3.1.1; undefined: the connection ends without a CONNACK. */
  readonly connack: { readonly version: ProtocolVersion; readonly code: number } | undefined
}

const maxClientIdBytes = 256
/** Nobody's battery depends on a longer one there, and clients that are tried out see that the server may decide. */
const maxOpenKeepAliveSeconds = 60
/** Longest that a session outlives its connection. */
export const maxSessionSeconds = 7 * 86_400

/** A CONNECT that may be read; who it comes from is not known yet. */
export interface ReadConnect {
  readonly packet: IConnectPacket
  readonly version: ProtocolVersion
}

/** Reads a CONNECT, after the guard has found nothing wrong with it. */
export function readConnect(bytes: Buffer, body: number): ReadConnect | RefusedConnect {
  const levelAt = protocolLevelAt(bytes, body)
  const level = levelAt === undefined ? undefined : bytes[levelAt]
  if (levelAt === undefined || level === undefined) return { result: 'protocol_error', connack: undefined }
  const version = level & 0x7f // a mosquitto bridge sets the highest bit
  if (version !== 3 && version !== 4 && version !== 5)
    return refused('unsupported', version > 5 ? 5 : 4, reasonCode.unsupportedVersion, 1)
  const fault = faultOfConnect(bytes, levelAt + 1, bytes.length, version)
  const packet = fault === 0 ? readControlPacket(bytes, version) : undefined
  if (packet?.cmd !== 'connect')
    return version === 5
      ? refused('protocol_error', 5, fault === 0 ? reasonCode.malformed : fault, 0)
      : { result: 'protocol_error', connack: undefined }
  if (packet.properties?.authenticationMethod !== undefined)
    return refused('unsupported', version, reasonCode.badAuthenticationMethod, 5)
  return { packet, version }
}

/** Answers a CONNECT once it is known who it comes from: client id, will. */
export function judgeConnect(
  { packet, version }: ReadConnect,
  authenticated: Principal,
  limits: TopicLimits,
  open?: OpenMode,
): AcceptedConnect | RefusedConnect {
  const properties = packet.properties ?? {}
  const principal = open === undefined ? authenticated : open.named(authenticated, packet.clientId)
  const clean = packet.clean !== false
  if (!isClientId(packet.clientId) || (packet.clientId === '' && !clean && version < 5))
    return refused('bad_client_id', version, reasonCode.clientIdNotValid, 2)
  const will = willOf(packet)
  if (will !== undefined && !isTopicName(will.topic, limits))
    return refused('protocol_error', version, reasonCode.topicNameInvalid, 5)
  if (will !== undefined && useOfTopic(will.topic, principal, open) === 'not_allowed')
    return refused('will_not_allowed', version, reasonCode.notAuthorized, 5)
  const keepAliveSeconds = packet.keepalive ?? 0
  const isKeepAliveShortened = open !== undefined && version === 5 && keepAliveSeconds > maxOpenKeepAliveSeconds
  const askedSeconds = version === 5 ? (properties.sessionExpiryInterval ?? 0) : clean ? 0 : Number.POSITIVE_INFINITY
  return {
    principal,
    version,
    clientId: packet.clientId === '' ? `fb-${randomBytes(9).toString('base64url')}` : packet.clientId,
    isAssigned: packet.clientId === '',
    clean,
    sessionSeconds: Math.min(askedSeconds, maxSessionSeconds),
    isSessionShortened: version === 5 && askedSeconds > maxSessionSeconds,
    keepAliveSeconds: isKeepAliveShortened ? maxOpenKeepAliveSeconds : keepAliveSeconds,
    isKeepAliveShortened,
    maxPacketBytes: properties.maximumPacketSize ?? Number.POSITIVE_INFINITY,
    receiveMaximum: properties.receiveMaximum ?? 65_535,
    topicAliasMaximum: properties.topicAliasMaximum ?? 0,
    wantsProblemInformation: properties.requestProblemInformation !== false,
    will,
  }
}

/** A CONNACK that refuses. */
export function refusingConnack(version: ProtocolVersion, code: number): Buffer {
  return version === 5 ? Buffer.from([0x20, 3, 0, code, 0]) : Buffer.from([0x20, 2, 0, code])
}

/** What we tell an accepted MQTT 5 client about us. */
export interface Capabilities {
  readonly receiveMaximum: number
  readonly maximumPacketSize: number
  readonly topicAliasMaximum: number
}

export function acceptingConnack(
  connect: AcceptedConnect,
  sessionPresent: boolean,
  capabilities: Capabilities,
): Buffer {
  if (connect.version !== 5) return Buffer.from([0x20, 2, sessionPresent ? 1 : 0, 0])
  const bytes = writeControlPacket(
    {
      cmd: 'connack',
      sessionPresent,
      reasonCode: 0,
      properties: {
        ...capabilities,
        sharedSubscriptionAvailable: false,
        ...(connect.isKeepAliveShortened && { serverKeepAlive: connect.keepAliveSeconds }),
        ...(connect.isSessionShortened && { sessionExpiryInterval: connect.sessionSeconds }),
        ...(connect.isAssigned && { assignedClientIdentifier: connect.clientId }),
      },
    },
    5,
  )
  const bare = Buffer.from([0x20, 3, sessionPresent ? 1 : 0, 0, 0])
  return bytes === undefined || bytes.length > connect.maxPacketBytes ? bare : bytes
}

/** What a device hears that has as many connections as it may. */
export function refusedForQuota(version: ProtocolVersion): RefusedConnect {
  return refused('too_many_clients', version, reasonCode.quotaExceeded, 3)
}

/** What somebody hears who is not let in. */
export function refusedBy(refusal: AuthRefusal, version: ProtocolVersion): RefusedConnect {
  switch (refusal) {
    case 'unknown':
      return refused('bad_credentials', version, reasonCode.badUserNameOrPassword, 4)
    case 'disabled':
      return refused('credential_disabled', version, reasonCode.notAuthorized, 5)
    case 'unavailable':
      return refused('credentials_unavailable', version, reasonCode.serverUnavailable, 3)
  }
}

/** @param returnCode the nearest of 3.1.1, §3.2.2.3 */
function refused(result: ConnectResult, version: ProtocolVersion, code: number, returnCode: number): RefusedConnect {
  return { result, connack: { version, code: version === 5 ? code : returnCode } }
}

function isClientId(clientId: string): boolean {
  return Buffer.byteLength(clientId) <= maxClientIdBytes && !/[\p{Cc}\uFFFD]/u.test(clientId)
}

/** Where the level stands, behind the protocol name; undefined for other names. */
function protocolLevelAt(bytes: Buffer, body: number): number | undefined {
  const name = bytes.toString('latin1', body, body + 8)
  if (name.startsWith('\0\x04MQTT')) return body + 6
  return name === '\0\x06MQIsdp' ? body + 8 : undefined
}

function isTopicName(name: string, limits: TopicLimits): boolean {
  const bytes = Buffer.from(name)
  return faultOfTopicName(bytes) === 0 && !isTooLarge(bytes, limits)
}
