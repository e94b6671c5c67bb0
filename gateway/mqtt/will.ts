import type { IConnectPacket } from 'mqtt-packet'
import type { Client } from './client.ts'
import { writeControlPacket } from './control-packet.ts'
import { keptProperties, PublishPacket } from './publish-packet.ts'

/** What a client leaves to be said when its connection is lost. */
export interface Will {
  readonly topic: string
  readonly payload: Buffer
  readonly contentType: string | undefined
  readonly qos: 0 | 1 | 2
  readonly retain: boolean
  /** How long after that; the end of the session comes first (MQTT 5.0 §3.1.3.2.2). */
  readonly delaySeconds: number
  /** 0: it does not expire. */
  readonly expirySeconds: number
  /** Its other properties, as in a PUBLISH. */
  readonly properties: Buffer | undefined
}

export function willOf({ will }: IConnectPacket): Will | undefined {
  if (will === undefined) return undefined
  const { willDelayInterval, ...properties } = will.properties ?? {}
  // Copied: the packet's memory would stay as long as the connection.
  const payload = Buffer.from(will.payload)
  return {
    topic: will.topic,
    payload,
    contentType: properties.contentType,
    qos: will.qos ?? 0,
    retain: will.retain === true,
    delaySeconds: willDelayInterval ?? 0,
    expirySeconds: properties.messageExpiryInterval ?? 0,
    properties: propertiesOf(properties),
  }
}

function propertiesOf(properties: NonNullable<NonNullable<IConnectPacket['will']>['properties']>): Buffer | undefined {
  if (Object.keys(properties).length === 0) return undefined
  const bytes = writeControlPacket(
    { cmd: 'publish', topic: 'x', payload: '', qos: 0, retain: false, dup: false, properties },
    5,
  )
  if (bytes === undefined) return undefined
  const packet = new PublishPacket()
  const body = bytes.findIndex((byte, at) => at > 0 && byte < 0x80) + 1
  return packet.read(bytes, 0, body, bytes.length, 5) === 0 ? keptProperties(packet, bytes) : undefined
}

/** Wills in all that wait for their time; one more is said at once. */
const maxDelayed = 10_000

interface Delayed {
  readonly timer: NodeJS.Timeout
  readonly publish: () => void
}

/** Wills whose connection is lost, and whose session is not: each is said after its delay, or with the end of the session, unless the client comes back. */
export class DelayedWills {
  readonly #delayed = new Map<Client, Delayed>()

  delay(client: Client, ms: number, publish: () => void): void {
    this.sayNow(client)
    if (ms <= 0 || this.#delayed.size >= maxDelayed) publish()
    else {
      const timer = setTimeout(() => this.sayNow(client), ms)
      this.#delayed.set(client, { timer, publish })
      client.hasDelayedWill = true
    }
  }

  /** The client goes on with its session [MQTT-3.1.3-9]. */
  cancel(client: Client): void {
    this.#take(client)
  }

  /** The session has ended. */
  sayNow(client: Client): void {
    this.#take(client)?.publish()
  }

  /** Forgets all of them. */
  stop(): void {
    for (const client of [...this.#delayed.keys()]) this.#take(client)
  }

  #take(client: Client): Delayed | undefined {
    const delayed = this.#delayed.get(client)
    if (delayed === undefined) return undefined
    clearTimeout(delayed.timer)
    this.#delayed.delete(client)
    client.hasDelayedWill = false
    return delayed
  }
}
