import type { ReasonCode } from '#schema/reason-code.ts'
import type { Source } from '#schema/telemetry-event.ts'
import type { Principal } from './auth/principal.ts'

export interface Charge {
  readonly messages: number
  readonly bytes: number
}

/** Headers of a request that codecs ask for, by their names in lower case: `ce-…` of CloudEvents, `x-limit-…` of OwnTracks. */
export type CarriedHeaders = ReadonlyMap<string, string>

/** One message as it arrived: one PUBLISH, one element of an HTTP array, one line of NDJSON, one device of a fleet body. */
export interface Ingress {
  readonly principal: Principal
  readonly source: Source
  /** MQTT topic name as the device wrote it, or the request's path with its query. */
  readonly topic: string
  readonly contentType: string | undefined
  /** Only over HTTP, and only where there are any. */
  readonly headers?: CarriedHeaders | undefined
  /** The message's own bytes, after inflation and splitting. */
  readonly payload: Buffer
  /** Device that the path or the fleet body names; wins over the topic, loses against nothing: the payload must agree or stay silent. */
  readonly device: string | undefined
  /** True for one element of `gateways/me/telemetry`: a device outside the pattern is then parked as not_allowed, not refused. */
  readonly fleetItem: boolean
  /** True for one element of an HTTP array that was split: only an object will do, as in the whole array. */
  readonly arrayElement?: boolean
  /** What the limits on messages and bytes charge for it, where that is not one message of its own size. */
  readonly charge?: Charge | undefined
  /** Set by a source that has refused these bytes before: they are not decoded, but kept as a dead letter with this code. */
  readonly park?: ReasonCode
  /** True when a parked message is answered like a stored one (MQTT 3.1.1, QoS 0, fleet bodies over MQTT, Influx). */
  readonly acknowledgesParked: boolean
  /** The sender's own name of the message beside its bytes (Idempotency-Key); a name in the bytes goes before it. */
  readonly messageKey?: string | undefined
  /** Names an MQTT delivery at QoS 1 or 2, so that a re-send is known after the gateway that took the first copy is gone. Absent at QoS 0 and over HTTP. */
  readonly deliveryKey?: string | undefined
  /** It came with the DUP flag, and is not known here as the copy of another. */
  readonly resend?: boolean
  /** The dead letter that is replayed. */
  readonly replayOf?: string
  /** Wall clock at arrival, whole microseconds since the epoch. */
  readonly ingestTimeUs: number
  /** performance.now() at arrival, for durations. */
  readonly arrivedAtMs: number
}
