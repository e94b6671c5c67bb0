/** What a gateway says of a device. `silent` and `back` are found by the workers, and stand in Postgres alone. */
export const reportedKinds = ['connected', 'disconnected', 'lost', 'limited'] as const
export type ReportedKind = (typeof reportedKinds)[number]

/** One connection of an MQTT client. Of two records the later one is that with the higher (epoch, incarnation), and then the one that ends it. */
export interface EventSession {
  /** MQTT client id. */
  readonly client: string
  /** Rises with each connection of the client id, on whatever gateway: microseconds since the Unix epoch, or a little more. */
  readonly epoch: number
  /** Host and a random part: one gateway process. */
  readonly gateway: string
  /** Rises when a gateway has to say anew who is connected; what it said under the one before ends with that. */
  readonly incarnation: number
  readonly connectedUs: number
}

/** A record of the topic `<prefix>.device-event.v1`. schema/device-event.v1.json is its JSON Schema. */
export interface DeviceEvent {
  readonly v: 1
  /** UUIDv7, ours: a record that comes twice is known by it. */
  readonly id: string
  readonly tenant: string
  readonly device: string
  readonly kind: ReportedKind
  readonly timeUs: number
  /** Present for connected, disconnected and lost. */
  readonly session?: EventSession
  /** `reason` of an ending; `limit`, `messages` and `waitMs` of limited. */
  readonly details?: Readonly<Record<string, string | number | boolean>>
}

/** A sign of life of a gateway, in the same topic under a key that is no device's. */
export interface GatewayBeat {
  readonly v: 1
  readonly kind: 'gateway'
  readonly gateway: string
  readonly incarnation: number
  readonly timeUs: number
}

export type DeviceEventRecord = DeviceEvent | GatewayBeat
